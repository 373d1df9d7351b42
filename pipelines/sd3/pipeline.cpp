// SPDX-License-Identifier: Apache-2.0
#include "pipelines/sd3/pipeline.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "attention/error.h"
#include "pipelines/common/checks.h"
#include "pipelines/common/outlook.h"
#include "pipelines/common/preview.h"
#include "pipelines/common/prompts/encoders.h"
#include "pipelines/common/prompts/tokens.h"
#include "pipelines/image/picture.h"

namespace sagelab::sd3 {
namespace {

double number_of(const Request& request, const char* option) {
  return std::get<double>(option_value(request, options(), option));
}

std::vector<int64_t> layers_of(std::string_view list, int64_t layers) {
  std::vector<int64_t> all;
  for (const char* at = list.data(); at != list.data() + list.size();) {
    const char* end = list.data() + list.size();
    int64_t layer = -1;
    const auto [stop, error] = std::from_chars(at, end, layer);
    if (error != std::errc() || (stop != end && (*stop != ',' || stop + 1 == end)))
      throw Error(fmt::format("skip_guidance_layers = \"{}\" is no list of layers", list),
                  "give numbers between commas: 7,8,9");
    if (layer < 0 || layer >= layers)
      throw Error(
          fmt::format("skip_guidance_layers has {}, and this model has layers 0 to {}", layer, layers - 1));
    all.push_back(layer);
    at = stop == end ? end : stop + 1;
  }
  return all;
}

}  // namespace

bool is_guided(const Request& request) {
  return request.guidance_scale.value() > 1;
}

std::unique_ptr<FlowMatchEuler> sampler_of(const Folder& folder, const Request& request) {
  return std::make_unique<FlowMatchEuler>(
      folder.scheduler,
      FlowMatchSteps{request.steps.value(), {}, folder.scheduler.mu(Geometry(folder, request).image_tokens)});
}

SkipGuidance skip_guidance_of(const Folder& folder, const Request& request) {
  const auto list = std::get<std::string>(option_value(request, options(), "skip_guidance_layers"));
  SkipGuidance skip{
      layers_of(list, folder.transformer.layers), number_of(request, "skip_layer_guidance_scale"),
      number_of(request, "skip_layer_guidance_start"), number_of(request, "skip_layer_guidance_stop")};
  if (!is_guided(request)) skip.layers.clear();
  return skip;
}

void StableDiffusion3::make_room_to_encode(bool with_t5, const Request& request) {
  std::vector<EncoderBytes> missing;
  if (!clip_l_) missing.push_back({residence_.bytes("text_encoder")});
  if (!clip_g_) missing.push_back({residence_.bytes("text_encoder_2")});
  if (with_t5 && !t5_) missing.push_back({residence_.bytes("text_encoder_3")});
  if (missing.empty()) return;
  residence_.make_room(peak_of_encoders(missing, request).weights, request, transformer_, vae_);
}

void StableDiffusion3::encode_texts(const std::vector<Texts>& wanted, const Request& request,
                                    const RunContext& run) {
  const bool freed = frees_encoders(request);
  const Tokenizers tokenizers(folder_);
  const auto tokens = rows_.tokens(wanted, freed, [&](const Texts& texts) { return tokenizers(texts); });
  make_room_to_encode(std::ranges::any_of(tokens, [](const auto& one) { return one.second.t5.has_value(); }),
                      request);
  const auto kept = [&](const at::Tensor& x) { return x.to(target_.dtype).cpu(); };
  const auto loaded = [&](std::unique_ptr<ClipTextEncoder>& held, const char* name,
                          const ClipTextConfig& config) -> const ClipTextEncoder& {
    residence_.load(held, name, run, [&](const Weights& w) {
      return ClipTextEncoder(w, config, ClipTextEncoder::Projection::Text);
    });
    return *held;
  };
  const auto clip_l = [&](const TextTokens& ids, PooledRow& row) {
    const ClipTextEncoder& encoder = loaded(clip_l_, "text_encoder", folder_.clip_l);
    const ClipText text = encoder(ids_of(ids.clip_l, target_.device), ids.clip_skip);
    row = {kept(text.embeds), kept(text.hidden), ids.clip_l.truncated || ids.clip_g.truncated, false};
  };
  const auto clip_g = [&](const TextTokens& ids, PooledRow& row) {
    if (freed) clip_l_.reset();
    const ClipTextEncoder& encoder = loaded(clip_g_, "text_encoder_2", folder_.clip_g);
    const ClipText text = encoder(ids_of(ids.clip_g, target_.device), ids.clip_skip);
    row.pooled = at::cat({row.pooled, kept(text.embeds)}, -1);
    row.embeds = at::cat({row.embeds, kept(text.hidden)}, -1);
  };
  const auto t5 = [&](const TextTokens& ids, PooledRow& row) {
    if (freed) clip_g_.reset();
    const int64_t joint = folder_.transformer.joint_attention_dim;
    at::Tensor rows = at::zeros({1, ids.t5_length, joint}, row.embeds.options());
    if (ids.t5) {
      residence_.load(t5_, "text_encoder_3", run,
                      [&](const Weights& w) { return T5Encoder(w, *folder_.t5); });
      rows = kept((*t5_)(ids_of(*ids.t5, target_.device)));
      row.t5_cut = ids.t5->truncated;
    }
    row.embeds = at::cat({at::constant_pad_nd(row.embeds, {0, joint - row.embeds.size(-1)}), rows}, 1);
  };
  rows_.add_in_passes(tokens, wanted.size(), run, clip_l, clip_g, t5);
}

Conditioning StableDiffusion3::encode(const Request& request, const RunContext& run) {
  const std::vector<Texts> wanted = texts_of(request);
  if (!rows_.keep(wanted)) encode_texts(wanted, request, run);
  if (frees_encoders(request)) clip_l_.reset(), clip_g_.reset(), t5_.reset();
  const auto rows = rows_.of(wanted);
  tell_what_is_cut(rows, {wanted.back().t5_length, folder_.clip_length}, run);
  return conditioning_of(rows, target_.device);
}

std::unique_ptr<State> StableDiffusion3::prepare(const Request& request, Conditioning conditioning,
                                                 const RunContext& run) {
  const Geometry geometry(folder_, request);
  auto state = begin<Sd3State>(request, std::move(conditioning), run);
  // Drawn on the CPU whatever the device, in the dtype that it is used in.
  state->latents = at::randn({1, folder_.transformer.in_channels, geometry.height, geometry.width},
                             state->generator, at::TensorOptions(state->conditioning.embeds.scalar_type()))
                       .to(target_.device);
  state->guidance_scale = request.guidance_scale.value();
  state->skip = skip_guidance_of(folder_, request);
  return state;
}

at::Tensor StableDiffusion3::predict(const State& base, int i, const Forward& forward) {
  const auto& state = static_cast<const Sd3State&>(base);
  const Conditioning& c = state.conditioning;
  const auto inputs_of = [&](const at::Tensor& latents, int64_t row) {
    const auto rows = [&](const at::Tensor& x) { return x.narrow(0, row, latents.size(0)); };
    return Inputs{latents, rows(c.embeds), rows(c.pooled),
                  at::full({latents.size(0)}, state.sampler->timesteps().at(size_t(i)),
                           latents.options().dtype(at::kFloat))};
  };
  if (!c.guided) return (*transformer_)(inputs_of(state.latents, 0), forward);
  const at::Tensor both = (*transformer_)(inputs_of(at::cat({state.latents, state.latents}), 0), forward);
  const at::Tensor uncond = both.slice(0, 0, 1), cond = both.slice(0, 1, 2);
  const at::Tensor guided = uncond + state.guidance_scale * (cond - uncond);
  if (!state.skip.at(i, state.steps)) return guided;
  Inputs inputs = inputs_of(state.latents, 1);
  inputs.skip = state.skip.layers;
  Forward skipping = forward;
  skipping.site.branch = attention::Branch::SkipLayer;
  return guided + (cond - (*transformer_)(inputs, skipping)) * state.skip.scale;
}

at::Tensor StableDiffusion3::preview(const State&, const at::Tensor& latents) {
  return principal_colours(latents);
}

at::Tensor StableDiffusion3::decode(const at::Tensor& latents, const Request& request,
                                    const RunContext& run) {
  const Geometry geometry(folder_, request);
  check_latents(latents.sizes().vec(), {1, folder_.vae.latent_channels, geometry.height, geometry.width});
  const bool tiled = request.vae_tiling == "on";
  const AutoencoderKL& vae = vae_for(geometry.decoding(tiled), request, run);
  return decode_picture(vae, latents.to(target_.device, target_.dtype), tiled, run);
}

}  // namespace sagelab::sd3
