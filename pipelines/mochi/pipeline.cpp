// SPDX-License-Identifier: Apache-2.0
#include "pipelines/mochi/pipeline.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "attention/error.h"
#include "pipelines/common/checks.h"
#include "pipelines/common/preview.h"
#include "pipelines/common/prompts/padded.h"
#include "pipelines/common/prompts/tokens.h"

namespace sagelab::mochi {

bool is_guided(const Request& request) {
  return request.guidance_scale.value() > 1;
}

// In the order of diffusers' operations, all of them fp64.
std::vector<double> linear_quadratic_sigmas(int steps) {
  constexpr double kThreshold = 0.025;  // of noise that is taken away in the linear half
  if (steps < 2)
    throw Error(fmt::format("{} steps are not possible with this schedule", steps), "give 2 or more");
  const int linear = steps / 2;
  const double half = linear, others = steps - linear;
  const double difference = half - kThreshold * steps;
  const double square = difference / (half * (others * others));
  const double slope = kThreshold / half - 2 * difference / (others * others);
  const double start = square * (half * half);
  std::vector<double> sigmas;
  for (int i = 0; i < steps; ++i) {
    const double taken = i < linear ? i * kThreshold / half : square * (double(i) * i) + slope * i + start;
    sigmas.push_back(1 - taken);
  }
  return sigmas;
}

std::unique_ptr<FlowMatchEuler> sampler_of(const Folder& folder, const Request& request) {
  const int steps = request.steps.value();
  return std::make_unique<FlowMatchEuler>(folder.scheduler,
                                          FlowMatchSteps{steps, linear_quadratic_sigmas(steps), {}});
}

std::vector<Text> texts_of(const Request& request) {
  const int64_t length = std::get<int64_t>(option_value(request, options(), "max_sequence_length"));
  if (!is_guided(request)) return {{request.prompt, length}};
  return {{request.negative_prompt, length}, {request.prompt, length}};
}

TextTokenizer::TextTokenizer(const Folder& folder)
    : folder_(folder), tokenizer_(open_t5_tokenizer(folder.root / "tokenizer")) {}

Tokens TextTokenizer::operator()(const Text& text) const {
  if (folder_.force_zeros_for_empty_prompt && text.first.empty()) return {};
  return checked(tokenizer_->encode(text.first, text.second),
                 {folder_.root, "tokenizer", "text_encoder", folder_.text.vocab_size});
}

// Padding is masked in T5 and read by nobody behind it: the tokens alone give the same rows.
void Mochi::encode_texts(const std::vector<Text>& wanted, const Request& request, const RunContext& run) {
  const TextTokenizer tokenizer(folder_);
  const auto tokens =
      rows_.tokens(wanted, frees_encoders(request), [&](const Text& text) { return tokenizer(text); });
  if (std::ranges::any_of(tokens, [](const auto& one) { return one.second.length > 0; })) {
    if (!text_encoder_) residence_.make_room(residence_.bytes("text_encoder"), request, transformer_, vae_);
    residence_.load(text_encoder_, "text_encoder", run,
                    [&](const Weights& w) { return T5Encoder(w, folder_.text); });
  }
  rows_.add(tokens, wanted.size(), run, [&](const Tokens& ids) {
    if (ids.length == 0)
      return Row{at::zeros({1, 0, folder_.text.d_model}, at::TensorOptions(target_.dtype)), false};
    const at::Tensor embeds = (*text_encoder_)(ids_of(ids, target_.device).narrow(1, 0, ids.length));
    return Row{embeds.to(target_.dtype).cpu(), ids.truncated};
  });
}

Conditioning Mochi::encode(const Request& request, const RunContext& run) {
  const auto wanted = texts_of(request);
  if (!rows_.keep(wanted)) encode_texts(wanted, request, run);
  if (frees_encoders(request)) text_encoder_.reset();
  const auto rows = rows_.of(wanted);
  const auto tell = [&](const char* what, const Row& row) {
    if (row.truncated)
      run.notice(fmt::format("the {} is cut at {} tokens (max_sequence_length)", what, wanted.back().second));
  };
  tell("prompt", *rows.back());
  if (rows.size() > 1) tell("negative prompt", *rows.front());
  std::vector<at::Tensor> embeds;
  for (const Row* row : rows) embeds.push_back(row->embeds);
  return conditioning_of_padded(embeds, target_.device);
}

std::unique_ptr<State> Mochi::prepare(const Request& request, Conditioning conditioning,
                                      const RunContext& run) {
  const VideoSizes sizes = sizes_of(folder_, request);
  auto state = begin<MochiState>(request, std::move(conditioning), run);
  state->latents =
      video_noise(sizes, state->generator).to(target_.device, state->conditioning.embeds.scalar_type());
  state->positions = positions_of(sizes.grid, target_.device);
  state->guidance_scale = request.guidance_scale.value();
  return state;
}

at::Tensor Mochi::predict(const State& base, int i, const Forward& forward) {
  const auto& state = static_cast<const MochiState&>(base);
  const Conditioning& c = state.conditioning;
  // In the latents' dtype: in bf16 not every timestep survives it, as in diffusers.
  const at::Tensor t = at::full({1}, state.sampler->timesteps().at(size_t(i)), state.latents.options());
  const auto predicted = [&](int64_t row, attention::Branch branch) {
    Forward one = forward;
    one.site.branch = branch;
    const Inputs inputs{state.latents, c.embeds.narrow(0, row, 1), c.lengths.narrow(0, row, 1), t,
                        state.positions};
    return (*transformer_)(inputs, one).to(at::kFloat);
  };
  const at::Tensor cond = predicted(c.guided ? 1 : 0, attention::Branch::Cond);
  if (!c.guided) return cond;
  const at::Tensor uncond = predicted(0, attention::Branch::Uncond);
  return uncond + state.guidance_scale * (cond - uncond);
}

at::Tensor Mochi::preview(const State&, const at::Tensor& latents) {
  return principal_colours(latents[0].transpose(0, 1));
}

at::Tensor Mochi::decode(const at::Tensor& latents, const Request& request, const RunContext& run) {
  const VideoSizes sizes = sizes_of(folder_, request);
  check_latents(latents.sizes().vec(), sizes.latents());
  const Decoding decoding = decoding_of(sizes, request);
  const VaeDecoder& vae = vae_for(decoding, request, run);
  VaeRun how;
  how.tiled = decoding.tiled;
  how.on_chunk = decoding_progress(run);
  return frames_of(vae.decode(vae.unscale(latents.to(target_.device, target_.dtype)), how));
}

}  // namespace sagelab::mochi
