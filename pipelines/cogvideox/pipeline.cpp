// SPDX-License-Identifier: Apache-2.0
#include "pipelines/cogvideox/pipeline.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>
#include <numbers>

#include "pipelines/cogvideox/plan.h"
#include "pipelines/cogvideox/sampler.h"
#include "pipelines/common/checks.h"
#include "pipelines/common/folder.h"
#include "pipelines/common/outlook.h"
#include "pipelines/common/preview.h"
#include "pipelines/common/prompts/tokens.h"

namespace sagelab::cogvideox {
namespace {

const ComponentClasses& classes() {
  static const ComponentClasses kClasses = {{"tokenizer", {"T5Tokenizer", "T5TokenizerFast"}},
                                            {"text_encoder", {"T5EncoderModel"}},
                                            {"transformer", {"CogVideoXTransformer3DModel"}},
                                            {"vae", {"AutoencoderKLCogVideoX"}},
                                            {"scheduler", {std::string(kDdimClass), std::string(kDpmClass)}}};
  return kClasses;
}

}  // namespace

Folder::Folder(const Request& request)
    : root(request.model),
      scheduler(class_in(checked_index(root / "model_index.json", classes()), "scheduler")),
      transformer(parse_config<TransformerConfig>(root / "transformer/config.json")),
      vae(parse_config<VaeConfig>(root / "vae/config.json")),
      text(parse_config<T5Config>(root / "text_encoder/config.json")),
      components(request, {component_table().begin(), component_table().end()}) {
  require_equal(root, {"text_encoder d_model", text.d_model},
                {"transformer text_embed_dim", transformer.text_embed_dim});
  require_equal(root, {"vae latent_channels", vae.latent_channels},
                {"transformer in_channels", transformer.in_channels});
  require_equal(root, {"transformer out_channels", transformer.out_channels},
                {"in_channels", transformer.in_channels});
  require_equal(root, {"vae out_channels", vae.out_channels}, {"the colours of a picture", 3});
}

Geometry::Geometry(const Folder& folder, const Request& request) {
  const TransformerConfig& c = folder.transformer;
  const int64_t latent_frames = (request.num_frames.value() - 1) / folder.vae.temporal_compression_ratio + 1;
  padding = (c.temporal_patch() - latent_frames % c.temporal_patch()) % c.temporal_patch();
  frames = latent_frames + padding;
  height = request.height.value() / folder.vae.spatial_compression();
  width = request.width.value() / folder.vae.spatial_compression();
  text_tokens = std::get<int64_t>(option_value(request, options(), "max_sequence_length"));
  video_tokens = frames / c.temporal_patch() * (height / c.patch_size) * (width / c.patch_size);
}

bool is_guided(const Request& request) {
  return request.guidance_scale.value() > 1;
}

double dynamic_guidance(double scale, int steps, double timestep) {
  const double power = std::pow((steps - timestep) / steps, 5.0);
  return 1 + scale * ((1 - std::cos(std::numbers::pi * power)) / 2);
}

std::unique_ptr<Sampler> sampler_of(const Folder& folder, const Request& request) {
  const std::string option = std::get<std::string>(option_value(request, options(), "scheduler"));
  const std::string_view name = option == "ddim"  ? kDdimClass
                                : option == "dpm" ? kDpmClass
                                                  : std::string_view(folder.scheduler);
  return make_sampler(Config(folder.root / "scheduler/scheduler_config.json"), name, request.steps.value());
}

Tokens tokens_of(const Folder& folder, const Tokenizer& tokenizer, const std::string& text, int64_t length) {
  return checked(tokenizer.encode(text, length),
                 {folder.root, "tokenizer", "text_encoder", folder.text.vocab_size});
}

std::vector<Text> texts_of(const Request& request) {
  const int64_t length = std::get<int64_t>(option_value(request, options(), "max_sequence_length"));
  if (!is_guided(request)) return {{request.prompt, length}};
  return {{request.negative_prompt, length}, {request.prompt, length}};
}

void CogVideoX::encode_texts(const std::vector<Text>& wanted, const Request& request, const RunContext& run) {
  const auto tokenizer = open_t5_tokenizer(folder_.root / "tokenizer");
  const auto tokens = rows_.tokens(wanted, frees_encoders(request), [&](const Text& text) {
    return tokens_of(folder_, *tokenizer, text.first, text.second);
  });
  if (!text_encoder_) residence_.make_room(residence_.bytes("text_encoder"), request, transformer_, vae_);
  residence_.load(text_encoder_, "text_encoder", run,
                  [&](const Weights& w) { return T5Encoder(w, folder_.text); });
  rows_.add(tokens, wanted.size(), run, [&](const Tokens& ids) {
    const at::Tensor embeds = (*text_encoder_)(ids_of(ids, target_.device));
    return Row{embeds.to(target_.dtype).cpu(), ids.truncated};
  });
}

Conditioning CogVideoX::encode(const Request& request, const RunContext& run) {
  const auto wanted = texts_of(request);
  if (!rows_.keep(wanted)) encode_texts(wanted, request, run);
  if (frees_encoders(request)) text_encoder_.reset();
  const auto tell = [&](const char* what, const Text& text) {
    if (rows_.at(text).truncated)
      run.notice(fmt::format("the {} is cut at {} tokens (max_sequence_length)", what, text.second));
  };
  Conditioning conditioning;
  conditioning.guided = is_guided(request);
  tell("prompt", wanted.back());
  if (conditioning.guided) tell("negative prompt", wanted.front());
  std::vector<at::Tensor> rows;
  for (const Text& text : wanted) rows.push_back(rows_.at(text).embeds.to(target_.device));
  conditioning.embeds = at::cat(rows);
  return conditioning;
}

std::unique_ptr<State> CogVideoX::prepare(const Request& request, Conditioning conditioning,
                                          const RunContext& run) {
  const Geometry geometry(folder_, request);
  auto state = begin<CogVideoXState>(request, std::move(conditioning), run);
  state->requested_steps = request.steps.value();
  // Drawn on the CPU whatever the device, in the dtype that it is used in: half-precision noise is no rounded
  // fp32 noise.
  state->latents =
      at::randn({1, geometry.frames, folder_.transformer.in_channels, geometry.height, geometry.width},
                state->generator, at::TensorOptions(state->conditioning.embeds.scalar_type()))
          .to(target_.device);
  if (folder_.transformer.rotary)
    state->rope = rope_table(folder_.transformer, geometry.extent(), target_.device);
  state->guidance_scale = request.guidance_scale.value();
  state->dynamic = std::get<bool>(option_value(request, options(), "use_dynamic_cfg"));
  state->padding = geometry.padding;
  return state;
}

at::Tensor CogVideoX::predict(const State& base, int i, const Forward& forward) {
  const auto& state = static_cast<const CogVideoXState&>(base);
  const bool guided = state.conditioning.guided;
  const double timestep = state.sampler->timesteps().at(size_t(i));
  const at::Tensor latents = guided ? at::cat({state.latents, state.latents}) : state.latents;
  const at::Tensor t = at::full({latents.size(0)}, int64_t(timestep), latents.options().dtype(at::kLong));
  const at::Tensor prediction =
      (*transformer_)(latents, state.conditioning.embeds, t, state.rope, forward).to(at::kFloat);
  if (!guided) return prediction;
  const double scale = state.dynamic ? dynamic_guidance(state.guidance_scale, state.requested_steps, timestep)
                                     : state.guidance_scale;
  const at::Tensor uncond = prediction.slice(0, 0, 1), cond = prediction.slice(0, 1, 2);
  return uncond + (cond - uncond).mul_(scale);
}

at::Tensor CogVideoX::preview(const State& state, const at::Tensor& latents) {
  return principal_colours(latents[0].slice(0, static_cast<const CogVideoXState&>(state).padding));
}

at::Tensor CogVideoX::decode(const at::Tensor& latents, const Request& request, const RunContext& run) {
  const Geometry geometry(folder_, request);
  check_latents(latents.sizes().vec(),
                {1, geometry.frames, folder_.vae.latent_channels, geometry.height, geometry.width});
  const bool tiled = request.vae_tiling == "on";
  const VaeDecoder& vae = vae_for(geometry.decoding(tiled), request, run);
  const at::Tensor z = latents.slice(1, geometry.padding)
                           .permute({0, 2, 1, 3, 4})
                           .to(target_.dtype)
                           .mul(1 / folder_.vae.scaling_factor);
  const at::Tensor video = vae.decode(z, tiled, [&](int64_t done, int64_t total) {
    run.say(Phase{"decode", done, total});
    return !run.stop.stop_requested();
  });
  return video[0].permute({1, 0, 2, 3});
}

}  // namespace sagelab::cogvideox
