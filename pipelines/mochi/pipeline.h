// SPDX-License-Identifier: Apache-2.0
// diffusers MochiPipeline: rows of T5 without their padding, one forward for each side of the guidance, since
// their lengths differ, guidance and steps in fp32. Latents are [1, C, T, h, w], in the prompt's dtype.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pipelines/common/family/folder_pipeline.h"
#include "pipelines/common/prompts/rows.h"
#include "pipelines/mochi/plan.h"
#include "pipelines/mochi/transformer.h"
#include "pipelines/text/tokenizer.h"

namespace sagelab::mochi {

const std::vector<Option>& options();
bool is_guided(const Request& request);
// Noise levels, from 1 down, as diffusers' linear_quadratic_schedule makes them: the first half of the steps
// leaves little of it, evenly. Throws sagelab::Error for fewer than two steps.
std::vector<double> linear_quadratic_sigmas(int steps);
std::unique_ptr<FlowMatchEuler> sampler_of(const Folder& folder, const Request& request);

using Text = std::pair<std::string, int64_t>;  // and its tokens at most
// [negative,] positive.
std::vector<Text> texts_of(const Request& request);
// The ids of texts; none where the folder has empty ones as no text at all. Throws sagelab::Error where the
// text encoder has no row for an id.
class TextTokenizer {
 public:
  explicit TextTokenizer(const Folder& folder);
  Tokens operator()(const Text& text) const;

 private:
  const Folder& folder_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

struct Row {
  at::Tensor embeds;  // [1, n, C] on the host: n tokens and no padding
  bool truncated = false;
};

struct MochiState : State {
  at::Tensor positions;
  double guidance_scale = 1;
};

class Mochi final : public FolderPipeline<Folder, Transformer, VaeDecoder, TextRows<Text, Row>> {
 public:
  explicit Mochi(const Request& request, Residence::Available available = available_memory)
      : FolderPipeline(request, std::move(available), texts_of) {}
  Conditioning encode(const Request& request, const RunContext& run) override;
  std::unique_ptr<State> prepare(const Request& request, Conditioning conditioning,
                                 const RunContext& run) override;
  at::Tensor predict(const State& state, int i, const Forward& forward) override;
  at::Tensor preview(const State& state, const at::Tensor& latents) override;
  at::Tensor decode(const at::Tensor& latents, const Request& request, const RunContext& run) override;

 private:
  void encode_texts(const std::vector<Text>& wanted, const Request& request, const RunContext& run);

  std::unique_ptr<T5Encoder> text_encoder_;
};

Family family();

}  // namespace sagelab::mochi
