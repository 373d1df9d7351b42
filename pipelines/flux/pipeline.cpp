// SPDX-License-Identifier: Apache-2.0
#include "pipelines/flux/pipeline.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "pipelines/common/checks.h"
#include "pipelines/common/outlook.h"
#include "pipelines/common/preview.h"
#include "pipelines/common/prompts/encoders.h"
#include "pipelines/common/prompts/tokens.h"
#include "pipelines/image/picture.h"
#include "pipelines/text/clip/tokenizer.h"

namespace sagelab::flux {
bool is_guided(const Request& request) {
  return std::get<double>(option_value(request, options(), "true_cfg_scale")) > 1;
}

std::unique_ptr<FlowMatchEuler> sampler_of(const Folder& folder, const Request& request) {
  const int steps = request.steps.value();
  return std::make_unique<FlowMatchEuler>(
      folder.scheduler, FlowMatchSteps{steps, linear_sigmas(steps),
                                       folder.scheduler.mu(Geometry(folder, request).grid.tokens())});
}

std::vector<Texts> texts_of(const Request& request) {
  const auto option = [&](const char* name) {
    return std::get<std::string>(option_value(request, options(), name));
  };
  const int64_t length = std::get<int64_t>(option_value(request, options(), "max_sequence_length"));
  const auto side = [&](const std::string& first, const std::string& second) {
    return Texts{first, second.empty() ? first : second, length};
  };
  std::vector<Texts> texts;
  if (is_guided(request)) texts.push_back(side(request.negative_prompt, option("negative_prompt_2")));
  texts.push_back(side(request.prompt, option("prompt_2")));
  return texts;
}

Tokenizers::Tokenizers(const Folder& folder)
    : folder_(folder),
      clip_(open_clip_tokenizer(folder.root / "tokenizer")),
      t5_(open_t5_tokenizer(folder.root / "tokenizer_2")),
      clip_length_(
          std::min(clip_model_max_length(folder.root / "tokenizer").value_or(folder.clip.max_positions),
                   folder.clip.max_positions)) {}

TextTokens Tokenizers::operator()(const Texts& texts) const {
  const std::filesystem::path& root = folder_.root;
  return {checked(clip_->encode(texts.clip, clip_length_),
                  {root, "tokenizer", "text_encoder", folder_.clip.vocab_size}),
          checked(t5_->encode(texts.t5, texts.t5_length),
                  {root, "tokenizer_2", "text_encoder_2", folder_.t5.vocab_size})};
}

void Flux::encode_texts(const std::vector<Texts>& wanted, const Request& request, const RunContext& run) {
  const bool freed = frees_encoders(request);
  const Tokenizers tokenizers(folder_);
  const auto tokens = rows_.tokens(wanted, freed, [&](const Texts& texts) { return tokenizers(texts); });
  if (!t5_) {
    const std::vector<EncoderBytes> both = {{residence_.bytes("text_encoder")},
                                            {residence_.bytes("text_encoder_2")}};
    residence_.make_room(peak_of_encoders(both, request).weights, request, transformer_, vae_);
  }
  const auto kept = [&](const at::Tensor& x) { return x.to(target_.dtype).cpu(); };
  const auto clip = [&](const TextTokens& ids, PooledRow& row) {
    residence_.load(clip_, "text_encoder", run, [&](const Weights& w) {
      return ClipTextEncoder(w, folder_.clip, ClipTextEncoder::Projection::None);
    });
    row.pooled = kept((*clip_)(ids_of(ids.clip, target_.device)).pooled);
    row.clip_cut = ids.clip.truncated;
  };
  const auto t5 = [&](const TextTokens& ids, PooledRow& row) {
    if (freed) clip_.reset();
    residence_.load(t5_, "text_encoder_2", run, [&](const Weights& w) { return T5Encoder(w, folder_.t5); });
    row.embeds = kept((*t5_)(ids_of(ids.t5, target_.device)));
    row.t5_cut = ids.t5.truncated;
  };
  rows_.add_in_passes(tokens, wanted.size(), run, clip, t5);
}

Conditioning Flux::encode(const Request& request, const RunContext& run) {
  const std::vector<Texts> wanted = texts_of(request);
  if (!rows_.keep(wanted)) encode_texts(wanted, request, run);
  if (frees_encoders(request)) clip_.reset(), t5_.reset();
  const auto rows = rows_.of(wanted);
  tell_what_is_cut(rows, {wanted.back().t5_length, folder_.clip.max_positions}, run);
  return conditioning_of(rows, target_.device);
}

std::unique_ptr<State> Flux::prepare(const Request& request, Conditioning conditioning,
                                     const RunContext& run) {
  const Geometry geometry(folder_, request);
  auto state = begin<FluxState>(request, std::move(conditioning), run);
  state->grid = geometry.grid;
  // Drawn on the CPU whatever the device, in the dtype that it is used in.
  const at::Tensor noise =
      at::randn({1, folder_.vae.latent_channels, 2 * state->grid.rows, 2 * state->grid.columns},
                state->generator, at::TensorOptions(state->conditioning.embeds.scalar_type()));
  state->latents = pack(noise).to(target_.device);
  state->rope = rope_table(folder_.transformer, geometry.text_tokens, state->grid, target_);
  if (folder_.transformer.guidance_embeds)
    state->guidance =
        at::full({1}, request.guidance_scale.value(), at::TensorOptions(at::kFloat).device(target_.device));
  state->true_cfg_scale = std::get<double>(option_value(request, options(), "true_cfg_scale"));
  return state;
}

at::Tensor Flux::predict(const State& base, int i, const Forward& forward) {
  const auto& state = static_cast<const FluxState&>(base);
  const Conditioning& c = state.conditioning;
  Inputs inputs;
  inputs.tokens = state.latents;
  inputs.guidance = state.guidance;
  inputs.rope = state.rope;
  // Divided in the latents' dtype: in bf16 not every timestep survives it, as in diffusers.
  inputs.t = at::full({1}, state.sampler->timesteps().at(size_t(i)), state.latents.options()).div_(1000);
  const auto predicted = [&](int64_t row, attention::Branch branch) {
    inputs.text = c.embeds.narrow(0, row, 1);
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

at::Tensor Flux::preview(const State& state, const at::Tensor& latents) {
  return principal_colours(unpack(latents, static_cast<const FluxState&>(state).grid));
}

at::Tensor Flux::decode(const at::Tensor& latents, const Request& request, const RunContext& run) {
  const Geometry geometry(folder_, request);
  check_latents(latents.sizes().vec(), {1, geometry.grid.tokens(), folder_.transformer.in_channels});
  const bool tiled = request.vae_tiling == "on";
  const AutoencoderKL& vae = vae_for(geometry.decoding(tiled), request, run);
  return decode_picture(vae, unpack(latents.to(target_.device, target_.dtype), geometry.grid), tiled, run);
}

}  // namespace sagelab::flux
