// SPDX-License-Identifier: Apache-2.0
// diffusers HunyuanVideoPipeline: rows of Llama without their padding, CLIP's pooled row, guidance as an
// input of the model, and true guidance by a second forward. Latents are [1, C, T, h, w]: fp32 noise, in the
// prediction's dtype after the first step.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <utility>
#include <vector>

#include "pipelines/common/family/folder_pipeline.h"
#include "pipelines/common/prompts/pooled.h"
#include "pipelines/common/prompts/rows.h"
#include "pipelines/hunyuanvideo/plan.h"
#include "pipelines/hunyuanvideo/prompts/prompts.h"
#include "pipelines/hunyuanvideo/transformer.h"

namespace sagelab::hunyuanvideo {

const std::vector<Option>& options();
// Two forwards a step: true_cfg_scale above 1.
bool is_guided(const Request& request);
std::unique_ptr<FlowMatchEuler> sampler_of(const Folder& folder, const Request& request);

struct HunyuanVideoState : State {
  attention::Rope rope;
  at::Tensor guidance;  // [1] fp32, or undefined
  double true_cfg_scale = 1;
};

class HunyuanVideo final : public FolderPipeline<Folder, Transformer, VaeDecoder, TextRows<Text, PooledRow>> {
 public:
  explicit HunyuanVideo(const Request& request, Residence::Available available = available_memory)
      : FolderPipeline(request, std::move(available), texts_of) {}
  Conditioning encode(const Request& request, const RunContext& run) override;
  std::unique_ptr<State> prepare(const Request& request, Conditioning conditioning,
                                 const RunContext& run) override;
  at::Tensor predict(const State& state, int i, const Forward& forward) override;
  at::Tensor preview(const State& state, const at::Tensor& latents) override;
  at::Tensor decode(const at::Tensor& latents, const Request& request, const RunContext& run) override;

 private:
  void encode_texts(const std::vector<Text>& wanted, const Request& request, const RunContext& run);

  std::unique_ptr<LlamaEncoder> llama_;
  std::unique_ptr<ClipTextEncoder> clip_;
};

Family family();

}  // namespace sagelab::hunyuanvideo
