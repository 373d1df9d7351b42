// SPDX-License-Identifier: Apache-2.0
// diffusers CogVideoXPipeline (2B, 5B, 1.5): T5 rows padded and attended to, one batch [negative, positive],
// guidance in fp32. Latents are [1, T, C, h, w], frames before channels, in the prompt's dtype.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "pipelines/cogvideox/config.h"
#include "pipelines/cogvideox/transformer.h"
#include "pipelines/cogvideox/vae.h"
#include "pipelines/pipeline.h"
#include "pipelines/registry.h"
#include "pipelines/text/t5.h"
#include "pipelines/text/tokenizer.h"

namespace sagelab::cogvideox {

// What a model folder's configs say. Throws sagelab::Error naming the file and the key that does not fit.
struct Folder {
  explicit Folder(const Request& request);
  std::filesystem::path root;
  std::string variant;
  TransformerConfig transformer;
  VaeConfig vae;
  T5Config text;
};

// A run's sizes in latents and tokens.
struct Geometry {
  Geometry(const Folder& folder, const Request& request);
  int64_t padding = 0;  // leading latent frames that fill up a temporal patch; dropped before decoding
  int64_t frames = 0;   // latent frames of the loop, padding included
  int64_t height = 0, width = 0;
  int64_t text_tokens = 0, video_tokens = 0;
  int64_t decoded_frames() const { return frames - padding; }
};

const std::vector<Option>& options();
bool is_guided(const Request& request);
// w = 1 + g (1 - cos(pi ((N - t) / N)^5)) / 2; the odd power keeps the sign of N - t.
double dynamic_guidance(double scale, int steps, double timestep);

struct CogVideoXState : State {
  attention::Rope rope;
  double guidance_scale = 1;
  bool dynamic = false;
  int64_t padding = 0;
};

class CogVideoX final : public Pipeline {
 public:
  explicit CogVideoX(const Request& request);
  Conditioning encode(const Request& request, const RunContext& run) override;
  std::unique_ptr<State> prepare(const Request& request, Conditioning conditioning,
                                 const RunContext& run) override;
  at::Tensor predict(const State& state, int i, const Forward& forward) override;
  void advance(State& state, int i, const at::Tensor& prediction) override;
  // The latents' three principal components as red, green and blue: checkpoints carry no factors for a better
  // one.
  at::Tensor preview(const State& state) override;
  at::Tensor decode(const at::Tensor& latents, const Request& request, const RunContext& run) override;

 private:
  at::Tensor embed(const Request& request, bool guided, const RunContext& run);
  // Frees what is loaded and not needed now, where a component of so many bytes would not fit beside it.
  void make_room(int64_t bytes, const Request& request);
  void load_text_encoder(const RunContext& run);
  void load_transformer(const RunContext& run);
  void load_vae(const RunContext& run);

  Folder folder_;
  Target target_;
  std::unique_ptr<T5Encoder> text_encoder_;
  std::unique_ptr<Transformer> transformer_;
  std::unique_ptr<VaeDecoder> vae_;
  struct Embedded {  // the last prompt's, so that another seed does not load the text encoder again
    std::string prompt, negative;
    int64_t length = 0;
    bool guided = false;
    at::Tensor embeds;
  };
  std::optional<Embedded> embedded_;
};

// Peaks, tokens and operations of a resolved request, from headers and configs alone (plan.cpp).
Plan plan(const Folder& folder, const Request& request);
std::vector<std::pair<std::string, int64_t>> peak_by_phase(const Folder& folder, const Request& request);
// What a component's files hold and we leave unread: the encoder of the VAE, T5's second name of its
// embedding.
std::span<const std::string_view> unread_prefixes(const std::string& component);
// Throws sagelab::Error for any tensor that is missing, of another shape or nobody's: before the first is
// loaded.
void check_weights(const Folder& folder);
// Bytes that the tensors we read of a component take in a dtype.
int64_t component_bytes(const Folder& folder, const std::string& component, at::ScalarType dtype);
// (key, shape) of every tensor that we read of a component with this config.
std::vector<std::pair<std::string, std::vector<int64_t>>> requested_names(const std::string& component,
                                                                          Config config);

Family family();

}  // namespace sagelab::cogvideox
