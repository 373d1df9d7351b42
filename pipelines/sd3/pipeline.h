// SPDX-License-Identifier: Apache-2.0
// diffusers StableDiffusion3Pipeline (SD3 medium, SD3.5 large and medium): rows of two CLIP towers side by
// side, then T5's, all of them attended to; one batch [negative, positive]; skip-layer guidance. Latents are
// [1, C, h, w].
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "pipelines/common/family/folder_pipeline.h"
#include "pipelines/common/prompts/pooled.h"
#include "pipelines/common/prompts/rows.h"
#include "pipelines/sd3/plan.h"
#include "pipelines/sd3/transformer.h"
#include "pipelines/text/tokenizer.h"

namespace sagelab::sd3 {

const std::vector<Option>& options();
bool is_guided(const Request& request);
std::unique_ptr<FlowMatchEuler> sampler_of(const Folder& folder, const Request& request);

// One more forward in some steps, without some blocks; what it leaves out is added once more.
struct SkipGuidance {
  std::vector<int64_t> layers;  // empty: none
  double scale = 0, begin = 0, end = 0;
  // In the steps i with begin < i < end; both are shares of them.
  bool at(int step, int steps) const { return !layers.empty() && step > steps * begin && step < steps * end; }
};
// Of a request with guidance. Throws sagelab::Error for a list that is none, and for a layer that the model
// does not have.
SkipGuidance skip_guidance_of(const Folder& folder, const Request& request);

// What the encoders read of one side of a request.
struct Texts {
  std::string clip_l, clip_g;
  std::optional<std::string> t5;  // none: zeros stand for its rows
  int64_t t5_length = 0;          // in tokens, padding included
  int64_t clip_skip = 0;          // layers of either CLIP left out before the last
  auto operator<=>(const Texts&) const = default;
};
// [negative,] positive. An empty prompt_2 or prompt_3 is the prompt, as in diffusers; so for the negative
// ones, which skip no layers.
std::vector<Texts> texts_of(const Request& request);
struct TextTokens {
  Tokens clip_l, clip_g;
  std::optional<Tokens> t5;
  int64_t t5_length = 0, clip_skip = 0;
};
// The tokenizers of a folder. Throws sagelab::Error where an encoder has no row for an id.
class Tokenizers {
 public:
  explicit Tokenizers(const Folder& folder);
  TextTokens operator()(const Texts& texts) const;

 private:
  const Folder& folder_;
  std::unique_ptr<Tokenizer> clip_l_, clip_g_, t5_;  // the last one where the folder has T5
};

struct Sd3State : State {
  double guidance_scale = 1;
  SkipGuidance skip;
};

class StableDiffusion3 final
    : public FolderPipeline<Folder, Transformer, AutoencoderKL, TextRows<Texts, PooledRow>> {
 public:
  explicit StableDiffusion3(const Request& request, Residence::Available available = available_memory)
      : FolderPipeline(request, std::move(available), texts_of) {}
  Conditioning encode(const Request& request, const RunContext& run) override;
  std::unique_ptr<State> prepare(const Request& request, Conditioning conditioning,
                                 const RunContext& run) override;
  at::Tensor predict(const State& state, int i, const Forward& forward) override;
  at::Tensor preview(const State& state, const at::Tensor& latents) override;
  at::Tensor decode(const at::Tensor& latents, const Request& request, const RunContext& run) override;

 private:
  void make_room_to_encode(bool with_t5, const Request& request);
  void encode_texts(const std::vector<Texts>& wanted, const Request& request, const RunContext& run);

  std::unique_ptr<ClipTextEncoder> clip_l_, clip_g_;
  std::unique_ptr<T5Encoder> t5_;
};

Family family();

}  // namespace sagelab::sd3
