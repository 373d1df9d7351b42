// SPDX-License-Identifier: Apache-2.0
#include "pipelines/flux/pipeline.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "attention/dtype.h"
#include "attention/error.h"
#include "pipelines/common/outlook.h"
#include "pipelines/common/preview.h"
#include "pipelines/text/clip/tokenizer.h"

namespace sagelab::flux {
namespace {

at::Tensor ids_of(const Tokens& tokens, const at::Device& device) {
  return at::tensor(tokens.ids, at::kLong).unsqueeze(0).to(device);
}

void check_ids(const Tokens& tokens, int64_t vocabulary, const std::filesystem::path& root,
               const char* tokenizer, const char* encoder) {
  for (const int64_t id : tokens.ids)
    if (id >= vocabulary)
      throw Error(
          fmt::format("{}: the prompt has token {}, but {} says vocab_size = {}", (root / tokenizer).string(),
                      id, (root / encoder / "config.json").string(), vocabulary),
          "the tokenizer belongs to another model than the text encoder");
}

}  // namespace

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
  TextTokens tokens{clip_->encode(texts.clip, clip_length_), t5_->encode(texts.t5, texts.t5_length)};
  check_ids(tokens.clip, folder_.clip.vocab_size, folder_.root, "tokenizer", "text_encoder");
  check_ids(tokens.t5, folder_.t5.vocab_size, folder_.root, "tokenizer_2", "text_encoder_2");
  return tokens;
}

Flux::Flux(const Request& request, Available available)
    : folder_(request), target_(resolve_target(request)), available_(std::move(available)) {
  check_weights(folder_);
}

void Flux::make_room(int64_t bytes, const Request& request, bool decoding) {
  const auto fits = [&] { return available_(target_.device) >= bytes; };
  if (request.offload == "none" || fits()) return;
  transformer_.reset();
  if (!decoding && !fits()) vae_.reset();
}

// Room is checked before loading: on a CPU the system would end the process where memory runs out.
template <class Model, class Make>
void Flux::load(std::unique_ptr<Model>& held, const std::string& name, const RunContext& run,
                const Make& make) {
  if (held) return;
  const int64_t bytes = component_bytes(folder_, name, target_), there = available_(target_.device);
  if (bytes > there)
    throw Error(
        fmt::format("out of memory: {} takes {} in {} on {}, and {} are free", name, human_bytes(bytes),
                    dtype_name(target_.dtype), device_name(target_.device), human_bytes(there)),
        "use --dtype bf16, --offload encoders or a machine with more memory");
  Loading loading(run);
  const Weights w(open_component(folder_, name, loading.progress()), target_);
  auto loaded = std::make_unique<Model>(make(w));
  w.require_all_read(unread_prefixes(name));
  held = std::move(loaded);  // not what was cut short
}

void Flux::load_encoders(const RunContext& run) {
  load(clip_, "text_encoder", run,
       [&](const Weights& w) { return ClipTextEncoder(w, folder_.clip, ClipTextEncoder::Projection::None); });
  load(t5_, "text_encoder_2", run, [&](const Weights& w) { return T5Encoder(w, folder_.t5); });
}

void Flux::load_transformer(const RunContext& run) {
  load(transformer_, "transformer", run,
       [&](const Weights& w) { return Transformer(w, folder_.transformer); });
}

void Flux::load_vae(const RunContext& run) {
  load(vae_, "vae", run, [&](const Weights& w) { return AutoencoderKL(w, folder_.vae); });
}

void Flux::expect(std::vector<Request> requests) {
  expected_.clear();
  for (const Request& request : requests)
    for (Texts& texts : texts_of(request)) expected_.push_back(std::move(texts));
}

void Flux::encode_texts(const std::vector<Texts>& wanted, const Request& request, const RunContext& run) {
  const bool freed = frees_encoders(request);
  const Tokenizers tokenizers(folder_);
  std::map<Texts, TextTokens> tokens;
  for (const Texts& texts : wanted) tokens.emplace(texts, tokenizers(texts));
  for (const Texts& texts : freed ? expected_ : std::vector<Texts>()) {
    if (rows_.contains(texts) || tokens.contains(texts)) continue;
    try {
      tokens.emplace(texts, tokenizers(texts));
    } catch (const Error&) {  // its own run will say so
    }
  }
  if (!t5_)
    make_room(component_bytes(folder_, "text_encoder", target_) +
                  component_bytes(folder_, "text_encoder_2", target_),
              request);
  load_encoders(run);
  int64_t done = 0;
  for (const auto& [texts, ids] : tokens) {
    run.check_cancelled();
    const at::Tensor pooled = (*clip_)(ids_of(ids.clip, target_.device)).pooled;
    const at::Tensor embeds = (*t5_)(ids_of(ids.t5, target_.device));
    const auto kept = [&](const at::Tensor& x) { return x.to(target_.dtype).cpu(); };
    rows_[texts] = {kept(pooled), kept(embeds), ids.clip.truncated, ids.t5.truncated};
    if (tokens.size() > wanted.size()) run.say(Phase{"encode", ++done, int64_t(tokens.size())});
  }
  if (freed) clip_.reset(), t5_.reset();
}

Conditioning Flux::encode(const Request& request, const RunContext& run) {
  const std::vector<Texts> wanted = texts_of(request);
  const auto is_among = [](const std::vector<Texts>& all, const Texts& texts) {
    return std::find(all.begin(), all.end(), texts) != all.end();
  };
  std::erase_if(rows_, [&](const auto& row) {
    return !is_among(wanted, row.first) && !is_among(expected_, row.first);
  });
  const bool known =
      std::all_of(wanted.begin(), wanted.end(), [&](const Texts& texts) { return rows_.contains(texts); });
  if (!known) encode_texts(wanted, request, run);
  const auto tell = [&](const char* what, const Texts& texts) {
    const Row& row = rows_.at(texts);
    if (row.t5_cut)
      run.notice(fmt::format("the {} is cut at {} tokens (max_sequence_length)", what, texts.t5_length));
    if (row.clip_cut)
      run.notice(fmt::format("CLIP reads the {} up to its {}th token", what, folder_.clip.max_positions));
  };
  Conditioning conditioning;
  conditioning.guided = is_guided(request);
  tell("prompt", wanted.back());
  if (conditioning.guided) tell("negative prompt", wanted.front());
  std::vector<at::Tensor> pooled, embeds;
  for (const Texts& texts : wanted) {
    pooled.push_back(rows_.at(texts).pooled.to(target_.device));
    embeds.push_back(rows_.at(texts).embeds.to(target_.device));
  }
  conditioning.pooled = at::cat(pooled);
  conditioning.embeds = at::cat(embeds);
  return conditioning;
}

std::unique_ptr<State> Flux::prepare(const Request& request, Conditioning conditioning,
                                     const RunContext& run) {
  if (!transformer_) make_room(component_bytes(folder_, "transformer", target_), request);
  load_transformer(run);
  const Geometry geometry(folder_, request);
  auto state = std::make_unique<FluxState>();
  state->grid = geometry.grid;
  state->sampler = sampler_of(folder_, request);
  state->steps = int(state->sampler->timesteps().size());
  state->generator = at::detail::createCPUGenerator(request.seed);
  // Drawn on the CPU whatever the device, in the dtype that it is used in.
  const at::Tensor noise =
      at::randn({1, folder_.vae.latent_channels, 2 * state->grid.rows, 2 * state->grid.columns},
                state->generator, at::TensorOptions(conditioning.embeds.scalar_type()));
  state->latents = pack(noise).to(target_.device);
  state->rope = rope_table(folder_.transformer, geometry.text_tokens, state->grid, target_);
  if (folder_.transformer.guidance_embeds)
    state->guidance =
        at::full({1}, request.guidance_scale.value(), at::TensorOptions(at::kFloat).device(target_.device));
  state->true_cfg_scale = std::get<double>(option_value(request, options(), "true_cfg_scale"));
  state->conditioning = std::move(conditioning);
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

void Flux::advance(State& state, int i, const at::Tensor& prediction) {
  state.latents = state.sampler->step(prediction, i, state.latents, state.generator);
}

at::Tensor Flux::preview(const State& base) {
  const auto& state = static_cast<const FluxState&>(base);
  return principal_colours(unpack(state.latents, state.grid));
}

at::Tensor Flux::decode(const at::Tensor& latents, const Request& request, const RunContext& run) {
  const Geometry geometry(folder_, request);
  const std::vector<int64_t> wanted = {1, geometry.grid.tokens(), folder_.transformer.in_channels};
  if (latents.sizes() != wanted)
    throw Error(fmt::format("the latents are [{}], and this request's are [{}]",
                            fmt::join(latents.sizes(), ", "), fmt::join(wanted, ", ")));
  const bool tiled = request.vae_tiling == "on";
  const int64_t weights = vae_ ? 0 : component_bytes(folder_, "vae", target_);
  make_room(weights + decode_peak_bytes(folder_.vae, geometry.decoding(tiled), target_), request,
            vae_ != nullptr);
  load_vae(run);
  const at::Tensor z = vae_->unscale(unpack(latents.to(target_.device, target_.dtype), geometry.grid));
  return vae_->decode(z, {.tiled = tiled, .on_tile = [&](int64_t done, int64_t total) {
                            run.say(Phase{"decode", done, total});
                            return !run.stop.stop_requested();
                          }});
}

}  // namespace sagelab::flux
