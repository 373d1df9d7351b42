// SPDX-License-Identifier: Apache-2.0
// diffusers FluxPipeline (FLUX.1 schnell and dev): CLIP's pooled row and T5's padded rows, all of them
// attended to; guidance as an input of the model, and true guidance by a second forward. Latents are packed:
// [1, N, 4C].
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pipelines/common/family/folder_pipeline.h"
#include "pipelines/common/prompts/pooled.h"
#include "pipelines/common/prompts/rows.h"
#include "pipelines/flux/plan.h"
#include "pipelines/flux/transformer.h"
#include "pipelines/text/tokenizer.h"

namespace sagelab::flux {

const std::vector<Option>& options();
// Two forwards a step: true_cfg_scale above 1.
bool is_guided(const Request& request);
std::unique_ptr<FlowMatchEuler> sampler_of(const Folder& folder, const Request& request);

// What either encoder reads of one side of a request.
struct Texts {
  std::string clip, t5;
  int64_t t5_length = 0;  // in tokens, padding included
  auto operator<=>(const Texts&) const = default;
};
// [negative,] positive. An empty prompt_2 is the prompt, as in diffusers; so for the negative ones.
std::vector<Texts> texts_of(const Request& request);
struct TextTokens {
  Tokens clip, t5;
};
// Both tokenizers of a folder. Throws sagelab::Error where an encoder has no row for an id.
class Tokenizers {
 public:
  explicit Tokenizers(const Folder& folder);
  TextTokens operator()(const Texts& texts) const;

 private:
  const Folder& folder_;
  std::unique_ptr<Tokenizer> clip_, t5_;
  int64_t clip_length_;
};

struct FluxState : State {
  attention::Rope rope;
  at::Tensor guidance;  // [1] fp32, or undefined
  double true_cfg_scale = 1;
  Grid grid;
};

class Flux final : public FolderPipeline<Folder, Transformer, AutoencoderKL, TextRows<Texts, PooledRow>> {
 public:
  explicit Flux(const Request& request, Residence::Available available = available_memory)
      : FolderPipeline(request, std::move(available), texts_of) {}
  Conditioning encode(const Request& request, const RunContext& run) override;
  std::unique_ptr<State> prepare(const Request& request, Conditioning conditioning,
                                 const RunContext& run) override;
  at::Tensor predict(const State& state, int i, const Forward& forward) override;
  at::Tensor preview(const State& state, const at::Tensor& latents) override;
  at::Tensor decode(const at::Tensor& latents, const Request& request, const RunContext& run) override;

 private:
  void encode_texts(const std::vector<Texts>& wanted, const Request& request, const RunContext& run);

  std::unique_ptr<ClipTextEncoder> clip_;
  std::unique_ptr<T5Encoder> t5_;
};

Family family();

}  // namespace sagelab::flux
