// SPDX-License-Identifier: Apache-2.0
#include "pipelines/hunyuanvideo/pipeline.h"

#include <ATen/ATen.h>

#include "pipelines/common/checks.h"
#include "pipelines/common/outlook.h"
#include "pipelines/common/preview.h"
#include "pipelines/common/prompts/encoders.h"
#include "pipelines/common/prompts/padded.h"
#include "pipelines/common/prompts/tokens.h"

namespace sagelab::hunyuanvideo {

bool is_guided(const Request& request) {
  return std::get<double>(option_value(request, options(), "true_cfg_scale")) > 1;
}

// diffusers' linspace(1, 0, steps + 1) without its end: as floats the same values.
std::unique_ptr<FlowMatchEuler> sampler_of(const Folder& folder, const Request& request) {
  const int steps = request.steps.value();
  return std::make_unique<FlowMatchEuler>(folder.scheduler, FlowMatchSteps{steps, linear_sigmas(steps), {}});
}

// Llama's attention is causal, and pads stand behind the text: the tokens alone give the same rows.
void HunyuanVideo::encode_texts(const std::vector<Text>& wanted, const Request& request,
                                const RunContext& run) {
  const bool freed = frees_encoders(request);
  const Tokenizers tokenizers(folder_);
  const auto tokens = rows_.tokens(wanted, freed, [&](const Text& text) { return tokenizers(text); });
  if (!llama_) {
    const std::vector<EncoderBytes> both = {{residence_.bytes("text_encoder")},
                                            {residence_.bytes("text_encoder_2")}};
    residence_.make_room(peak_of_encoders(both, request).weights, request, transformer_, vae_);
  }
  const auto kept = [&](const at::Tensor& x) { return x.to(target_.dtype).cpu().clone(); };
  const auto clip = [&](const TextTokens& ids, PooledRow& row) {
    residence_.load(clip_, "text_encoder_2", run, [&](const Weights& w) {
      return ClipTextEncoder(w, folder_.clip, ClipTextEncoder::Projection::None);
    });
    row.pooled = kept((*clip_)(ids_of(ids.clip, target_.device)).pooled);
    row.clip_cut = ids.clip.truncated;
  };
  const auto llama = [&](const TextTokens& ids, PooledRow& row) {
    if (freed) clip_.reset();
    residence_.load(llama_, "text_encoder", run,
                    [&](const Weights& w) { return LlamaEncoder(w, folder_.llama, kSkippedLayers); });
    const at::Tensor rows = (*llama_)(ids_of(ids.llama, target_.device).narrow(1, 0, ids.llama.length));
    row.embeds = kept(rows.narrow(1, kTemplateRows, ids.rows()));
    row.t5_cut = ids.llama.truncated;
  };
  rows_.add_in_passes(tokens, wanted.size(), run, clip, llama);
}

Conditioning HunyuanVideo::encode(const Request& request, const RunContext& run) {
  const std::vector<Text> wanted = texts_of(request);
  if (!rows_.keep(wanted)) encode_texts(wanted, request, run);
  if (frees_encoders(request)) clip_.reset(), llama_.reset();
  const auto rows = rows_.of(wanted);
  tell_what_is_cut(rows, {wanted.back().second, folder_.clip_rows()}, run);
  std::vector<at::Tensor> embeds, pooled;
  for (const PooledRow* row : rows) {
    embeds.push_back(row->embeds);
    pooled.push_back(row->pooled);
  }
  Conditioning conditioning = conditioning_of_padded(embeds, target_.device);
  conditioning.pooled = at::cat(pooled).to(target_.device);
  return conditioning;
}

std::unique_ptr<State> HunyuanVideo::prepare(const Request& request, Conditioning conditioning,
                                             const RunContext& run) {
  const VideoSizes sizes = sizes_of(folder_, request);
  auto state = begin<HunyuanVideoState>(request, std::move(conditioning), run);
  state->latents = video_noise(sizes, state->generator).to(target_.device);
  state->stepped_dtype = state->conditioning.embeds.scalar_type();
  state->rope =
      rope_table(folder_.transformer, sizes.grid, state->conditioning.embeds.size(1), target_.device);
  if (folder_.transformer.guidance_embeds)
    state->guidance =
        at::full({1}, request.guidance_scale.value(), at::TensorOptions(at::kFloat).device(target_.device));
  state->true_cfg_scale = std::get<double>(option_value(request, options(), "true_cfg_scale"));
  return state;
}

at::Tensor HunyuanVideo::predict(const State& base, int i, const Forward& forward) {
  const auto& state = static_cast<const HunyuanVideoState&>(base);
  const Conditioning& c = state.conditioning;
  Inputs inputs;
  inputs.latents = state.latents.to(c.embeds.scalar_type());
  // In the latents' dtype, which is fp32 at first: in bf16 not every timestep survives it, as in diffusers.
  inputs.t = at::full({1}, state.sampler->timesteps().at(size_t(i)), state.latents.options());
  inputs.guidance = state.guidance;
  inputs.rope = state.rope;
  const auto predicted = [&](int64_t row, attention::Branch branch) {
    inputs.text = c.embeds.narrow(0, row, 1);
    inputs.lengths = c.lengths.narrow(0, row, 1);
    inputs.pooled = c.pooled.narrow(0, row, 1);
    Forward one = forward;
    one.site.branch = branch;
    return (*transformer_)(inputs, one);
  };
  const at::Tensor cond = predicted(c.guided ? 1 : 0, attention::Branch::Cond);
  if (!c.guided) return cond;
  const at::Tensor uncond = predicted(0, attention::Branch::Uncond);
  return uncond + state.true_cfg_scale * (cond - uncond);
}

at::Tensor HunyuanVideo::preview(const State&, const at::Tensor& latents) {
  return principal_colours(latents[0].transpose(0, 1));
}

at::Tensor HunyuanVideo::decode(const at::Tensor& latents, const Request& request, const RunContext& run) {
  const VideoSizes sizes = sizes_of(folder_, request);
  check_latents(latents.sizes().vec(), sizes.latents());
  const Decoding decoding = decoding_of(sizes, request);
  const VaeDecoder& vae = vae_for(decoding, request, run);
  VaeRun how;
  how.tiled = decoding.tiled;
  how.on_tile = decoding_progress(run);
  return frames_of(vae.decode(vae.unscale(latents.to(target_.device, target_.dtype)), how));
}

}  // namespace sagelab::hunyuanvideo
