// SPDX-License-Identifier: Apache-2.0
// diffusers CogVideoXPipeline (2B, 5B, 1.5): T5 rows padded and attended to, one batch [negative, positive],
// guidance in fp32. Latents are [1, T, C, h, w], frames before channels, in the prompt's dtype.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pipelines/cogvideox/config.h"
#include "pipelines/cogvideox/positions.h"
#include "pipelines/cogvideox/transformer.h"
#include "pipelines/cogvideox/vae/decoder.h"
#include "pipelines/common/family/folder_pipeline.h"
#include "pipelines/common/prompts/rows.h"
#include "pipelines/text/t5.h"
#include "pipelines/text/tokenizer.h"

namespace sagelab::cogvideox {

// What a model folder's configs say. Throws sagelab::Error naming the file and the key that does not fit.
struct Folder {
  explicit Folder(const Request& request);
  std::filesystem::path root;
  std::string scheduler;  // the class that model_index.json names
  TransformerConfig transformer;
  VaeConfig vae;
  T5Config text;
  Components components;
};

// A run's sizes in latents and tokens.
struct Geometry {
  Geometry(const Folder& folder, const Request& request);
  int64_t padding = 0;  // leading latent frames that fill up a temporal patch; dropped before decoding
  int64_t frames = 0;   // latent frames of the loop, padding included
  int64_t height = 0, width = 0;
  int64_t text_tokens = 0, video_tokens = 0;
  Extent extent() const { return {text_tokens, frames, height, width}; }
  Decoding decoding(bool tiled) const { return {frames - padding, height, width, tiled}; }
};

const std::vector<Option>& options();
bool is_guided(const Request& request);
// w = 1 + g (1 - cos(pi ((N - t) / N)^5)) / 2; the odd power keeps the sign of N - t. steps: as asked for;
// trailing spacing may make one timestep more.
double dynamic_guidance(double scale, int steps, double timestep);
// Of the class that the request's option names, or model_index.json. Throws what make_sampler throws.
std::unique_ptr<Sampler> sampler_of(const Folder& folder, const Request& request);
// The ids of a prompt. Throws sagelab::Error where the text encoder has no row for one of them.
Tokens tokens_of(const Folder& folder, const Tokenizer& tokenizer, const std::string& text, int64_t length);

using Text = std::pair<std::string, int64_t>;        // and the length in tokens to which it is padded
std::vector<Text> texts_of(const Request& request);  // [negative,] prompt
struct Row {
  at::Tensor embeds;  // [1, L, C] on the host
  bool truncated = false;
};

struct CogVideoXState : State {
  attention::Rope rope;
  double guidance_scale = 1;
  bool dynamic = false;
  int requested_steps = 0;
  int64_t padding = 0;
};

class CogVideoX final : public FolderPipeline<Folder, Transformer, VaeDecoder, TextRows<Text, Row>> {
 public:
  explicit CogVideoX(const Request& request, Residence::Available available = available_memory)
      : FolderPipeline(request, std::move(available), texts_of) {}
  Conditioning encode(const Request& request, const RunContext& run) override;
  std::unique_ptr<State> prepare(const Request& request, Conditioning conditioning,
                                 const RunContext& run) override;
  at::Tensor predict(const State& state, int i, const Forward& forward) override;
  // The latents' three principal components as red, green and blue: checkpoints carry no factors for a better
  // one.
  at::Tensor preview(const State& state, const at::Tensor& latents) override;
  at::Tensor decode(const at::Tensor& latents, const Request& request, const RunContext& run) override;

 private:
  void encode_texts(const std::vector<Text>& wanted, const Request& request, const RunContext& run);

  std::unique_ptr<T5Encoder> text_encoder_;
};

Family family();

}  // namespace sagelab::cogvideox
