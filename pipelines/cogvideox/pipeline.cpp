// SPDX-License-Identifier: Apache-2.0
#include "pipelines/cogvideox/pipeline.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "attention/dtype.h"
#include "attention/error.h"
#include "pipelines/cogvideox/plan.h"
#include "pipelines/cogvideox/sampler.h"
#include "pipelines/common/folder.h"
#include "pipelines/common/outlook.h"
#include "pipelines/common/preview.h"

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

at::Tensor ids_of(const Tokens& tokens, const at::Device& device) {
  return at::tensor(tokens.ids, at::kLong).unsqueeze(0).to(device);
}

}  // namespace

Folder::Folder(const Request& request)
    : root(request.model),
      files(request),
      scheduler(class_in(checked_index(root / "model_index.json", classes()), "scheduler")),
      transformer(parse_config<TransformerConfig>(root / "transformer/config.json")),
      vae(parse_config<VaeConfig>(root / "vae/config.json")),
      text(parse_config<T5Config>(root / "text_encoder/config.json")) {
  files.require_among(std::vector<std::string>{"text_encoder", "transformer", "vae"});
  const auto agree = [&](const char* a, int64_t x, const char* b, int64_t y) {
    if (x != y) throw Error(fmt::format("{}: {} = {} does not fit {} = {}", root.string(), a, x, b, y));
  };
  agree("text_encoder d_model", text.d_model, "transformer text_embed_dim", transformer.text_embed_dim);
  agree("vae latent_channels", vae.latent_channels, "transformer in_channels", transformer.in_channels);
  agree("transformer out_channels", transformer.out_channels, "in_channels", transformer.in_channels);
  agree("vae out_channels", vae.out_channels, "the colours of a picture", 3);
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
  Tokens tokens = tokenizer.encode(text, length);
  for (const int64_t id : tokens.ids)
    if (id >= folder.text.vocab_size)
      throw Error(fmt::format("{}: the prompt has token {}, but {} says vocab_size = {}",
                              (folder.root / "tokenizer").string(), id,
                              (folder.root / "text_encoder/config.json").string(), folder.text.vocab_size),
                  "the tokenizer belongs to another model than the text encoder");
  return tokens;
}

CogVideoX::CogVideoX(const Request& request, Available available)
    : folder_(request), target_(resolve_target(request)), available_(std::move(available)) {
  check_weights(folder_);
}

void CogVideoX::make_room(int64_t bytes, const Request& request, bool decoding) {
  const auto fits = [&] { return available_(target_.device) >= bytes; };
  if (request.offload == "none" || fits()) return;
  transformer_.reset();
  if (!decoding && !fits()) vae_.reset();
}

// Checked before loading: on a CPU the system would end the process where memory runs out.
void CogVideoX::require_room(const std::string& component) const {
  const int64_t bytes = component_bytes(folder_, component, target_);
  const int64_t there = available_(target_.device);
  if (bytes <= there) return;
  const std::string name = component == "text_encoder" ? "text encoder" : component;
  throw Error(
      fmt::format("out of memory: the {} takes {} in {} on {}, and {} are free", name, human_bytes(bytes),
                  dtype_name(target_.dtype), device_name(target_.device), human_bytes(there)),
      "use --dtype bf16, --offload encoders or a machine with more memory");
}

void CogVideoX::load_text_encoder(const RunContext& run) {
  if (text_encoder_) return;
  require_room("text_encoder");
  Loading loading(run);
  const Weights w(open_component(folder_, "text_encoder", loading.progress()), target_);
  auto loaded = std::make_unique<T5Encoder>(w, folder_.text);
  w.require_all_read(unread_prefixes("text_encoder"));
  text_encoder_ = std::move(loaded);  // not what was cut short
}

void CogVideoX::load_transformer(const RunContext& run) {
  if (transformer_) return;
  require_room("transformer");
  Loading loading(run);
  const Weights w(open_component(folder_, "transformer", loading.progress()), target_);
  auto loaded = std::make_unique<Transformer>(w, folder_.transformer);
  w.require_all_read();
  transformer_ = std::move(loaded);  // not what was cut short
}

void CogVideoX::load_vae(const RunContext& run) {
  if (vae_) return;
  require_room("vae");
  Loading loading(run);
  const Weights w(open_component(folder_, "vae", loading.progress()), target_);
  auto loaded = std::make_unique<VaeDecoder>(w, folder_.vae);
  w.require_all_read(unread_prefixes("vae"));
  vae_ = std::move(loaded);  // not what was cut short
}

std::vector<CogVideoX::Text> CogVideoX::texts_of(const Request& request) {
  const int64_t length = std::get<int64_t>(option_value(request, options(), "max_sequence_length"));
  if (!is_guided(request)) return {{request.prompt, length}};
  return {{request.negative_prompt, length}, {request.prompt, length}};
}

void CogVideoX::expect(std::vector<Request> requests) {
  expected_.clear();
  for (const Request& request : requests)
    for (Text& text : texts_of(request)) expected_.push_back(std::move(text));
}

std::map<CogVideoX::Text, Tokens> CogVideoX::tokens_to_encode(const std::vector<Text>& wanted,
                                                              bool ahead) const {
  const auto tokenizer = open_t5_tokenizer(folder_.root / "tokenizer");
  std::map<Text, Tokens> all;
  const auto add = [&](const Text& text) {
    if (!rows_.contains(text) && !all.contains(text))
      all.emplace(text, tokens_of(folder_, *tokenizer, text.first, text.second));
  };
  std::for_each(wanted.begin(), wanted.end(), add);
  if (!ahead) return all;
  for (const Text& text : expected_) {
    try {
      add(text);
    } catch (const Error&) {  // its own run will say so
    }
  }
  return all;
}

void CogVideoX::encode_texts(const std::vector<Text>& wanted, const Request& request, const RunContext& run) {
  const bool freed = frees_encoders(request);
  const auto tokens = tokens_to_encode(wanted, freed);
  if (!text_encoder_) make_room(component_bytes(folder_, "text_encoder", target_), request);
  load_text_encoder(run);
  int64_t done = 0;
  // One at a time, as diffusers encodes them: the sum of a matrix product depends on the batch.
  for (const auto& [text, ids] : tokens) {
    run.check_cancelled();
    const at::Tensor embeds = (*text_encoder_)(ids_of(ids, target_.device));
    rows_[text] = {embeds.to(target_.dtype).cpu(), ids.truncated};
    if (tokens.size() > wanted.size()) run.say(Phase{"encode", ++done, int64_t(tokens.size())});
  }
  if (freed) text_encoder_.reset();
}

Conditioning CogVideoX::encode(const Request& request, const RunContext& run) {
  const auto wanted = texts_of(request);
  const auto is_among = [](const std::vector<Text>& texts, const Text& text) {
    return std::find(texts.begin(), texts.end(), text) != texts.end();
  };
  std::erase_if(rows_, [&](const auto& row) {
    return !is_among(wanted, row.first) && !is_among(expected_, row.first);
  });
  const bool known =
      std::all_of(wanted.begin(), wanted.end(), [&](const Text& text) { return rows_.contains(text); });
  if (!known) encode_texts(wanted, request, run);
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
  if (!transformer_) make_room(component_bytes(folder_, "transformer", target_), request);
  load_transformer(run);
  const Geometry geometry(folder_, request);
  auto state = std::make_unique<CogVideoXState>();
  state->sampler = sampler_of(folder_, request);
  state->steps = int(state->sampler->timesteps().size());
  state->requested_steps = request.steps.value();
  state->generator = at::detail::createCPUGenerator(request.seed);
  // Drawn on the CPU whatever the device, in the dtype that it is used in: half-precision noise is no rounded
  // fp32 noise.
  state->latents =
      at::randn({1, geometry.frames, folder_.transformer.in_channels, geometry.height, geometry.width},
                state->generator, at::TensorOptions(conditioning.embeds.scalar_type()))
          .to(target_.device);
  if (folder_.transformer.rotary)
    state->rope = rope_table(folder_.transformer, geometry.extent(), target_.device);
  state->guidance_scale = request.guidance_scale.value();
  state->dynamic = std::get<bool>(option_value(request, options(), "use_dynamic_cfg"));
  state->padding = geometry.padding;
  state->conditioning = std::move(conditioning);
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

void CogVideoX::advance(State& state, int i, const at::Tensor& prediction) {
  state.latents = state.sampler->step(prediction, i, state.latents, state.generator)
                      .to(state.conditioning.embeds.scalar_type());
}

at::Tensor CogVideoX::preview(const State& base) {
  const auto& state = static_cast<const CogVideoXState&>(base);
  return principal_colours(state.latents[0].slice(0, state.padding));
}

at::Tensor CogVideoX::decode(const at::Tensor& latents, const Request& request, const RunContext& run) {
  const Geometry geometry(folder_, request);
  const std::vector<int64_t> wanted = {1, geometry.frames, folder_.vae.latent_channels, geometry.height,
                                       geometry.width};
  if (latents.sizes() != wanted)
    throw Error(fmt::format("the latents are [{}], and this request's are [{}]",
                            fmt::join(latents.sizes(), ", "), fmt::join(wanted, ", ")));
  const bool tiled = request.vae_tiling == "on";
  const int64_t weights = vae_ ? 0 : component_bytes(folder_, "vae", target_);
  make_room(weights + decode_peak_bytes(folder_.vae, geometry.decoding(tiled), target_), request,
            vae_ != nullptr);
  load_vae(run);
  const at::Tensor z = latents.slice(1, geometry.padding)
                           .permute({0, 2, 1, 3, 4})
                           .to(target_.dtype)
                           .mul(1 / folder_.vae.scaling_factor);
  const at::Tensor video = vae_->decode(z, tiled, [&](int64_t done, int64_t total) {
    run.say(Phase{"decode", done, total});
    return !run.stop.stop_requested();
  });
  return video[0].permute({1, 0, 2, 3});
}

}  // namespace sagelab::cogvideox
