// SPDX-License-Identifier: Apache-2.0
#include "pipelines/image/flow_match_euler.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "attention/error.h"

namespace sagelab {
namespace {

using at::Tensor;

// NumPy's: every value is start + i * step, and the last one is stop itself.
std::vector<double> linspace(double start, double stop, int count) {
  std::vector<double> out(std::max(count, 0), start);
  if (count < 2) return out;
  const double step = (stop - start) / (count - 1);
  for (int i = 0; i < count; ++i) {
    const double offset = i * step;
    out[i] = offset + start;
  }
  out.back() = stop;
  return out;
}

// In s's precision, to which NumPy and LibTorch both round Python's floats first.
Tensor shifted(const Tensor& s, double shift) {
  return s * shift / (s * (shift - 1) + 1);
}

Tensor shifted_by_mu(const Tensor& s, const FlowMatchEulerConfig& config, double mu) {
  const double factor = config.time_shift == FlowMatchEulerConfig::TimeShift::Linear ? mu : std::exp(mu);
  const Tensor odds = s.reciprocal() - 1;
  return at::full_like(s, factor) / (odds + factor);
}

Tensor stretched(const Tensor& s, double terminal) {
  const Tensor left = 1 - s;
  return 1 - left / (left[-1] / (1 - terminal));
}

// What a pipeline that passes no sigmas gets: from the largest to the smallest of the training schedule, in
// fp64. With a static shift those two are shifted here already, and all of them once more later: so it is in
// diffusers.
Tensor own_sigmas(const FlowMatchEulerConfig& config, int steps) {
  const double train = double(config.num_train_timesteps);
  Tensor ends = at::tensor({float(train), 1.0F}) / train;
  if (!config.use_dynamic_shifting) ends = shifted(ends, config.shift);
  const double first = double(ends[0].item<float>()), last = double(ends[1].item<float>());
  return at::tensor(linspace(first * train, last * train, steps), at::kDouble) / train;
}

Tensor base_sigmas(const FlowMatchEulerConfig& config, const FlowMatchSteps& steps) {
  if (steps.steps < 1)
    throw Error(fmt::format("{} steps are not possible with this scheduler", steps.steps), "give 1 or more");
  if (config.shift_terminal != 0 && steps.steps < 2)
    throw Error(fmt::format("{}: shift_terminal needs 2 steps or more", config.where));
  if (steps.sigmas.empty()) return own_sigmas(config, steps.steps);
  if (steps.sigmas.size() != size_t(steps.steps))
    throw Error(fmt::format("{} sigmas were given for {} steps", steps.sigmas.size(), steps.steps));
  for (const double sigma : steps.sigmas)
    if (!(sigma >= 0 && sigma <= 1))
      throw Error(fmt::format("sigma {} should be from 0 (the picture) to 1 (noise)", sigma));
  return at::tensor(steps.sigmas, at::kDouble).to(at::kFloat);
}

}  // namespace

FlowMatchEulerConfig::FlowMatchEulerConfig(Config& config) : where(config.where()) {
  constexpr int64_t kMostTimesteps = 1'000'000;
  num_train_timesteps = config.size("num_train_timesteps", num_train_timesteps, kMostTimesteps);
  shift = config.number("shift", shift);
  if (!(shift > 0)) throw Error(fmt::format("{}: shift = {} should be above 0", where, shift));
  use_dynamic_shifting = config.boolean("use_dynamic_shifting", use_dynamic_shifting);
  base_shift = config.number("base_shift", base_shift);
  max_shift = config.number("max_shift", max_shift);
  base_image_seq_len = config.at_least("base_image_seq_len", base_image_seq_len, 1);
  max_image_seq_len = config.at_least("max_image_seq_len", max_image_seq_len, 1);
  if (base_image_seq_len == max_image_seq_len)
    throw Error(fmt::format("{}: base_image_seq_len = max_image_seq_len = {} leaves no line between them",
                            where, max_image_seq_len));
  invert_sigmas = config.boolean("invert_sigmas", invert_sigmas);
  shift_terminal = config.number("shift_terminal", shift_terminal);
  if (!(shift_terminal >= 0 && shift_terminal < 1))
    throw Error(
        fmt::format("{}: shift_terminal = {} should be from 0 to less than 1", where, shift_terminal));
  const std::string type = config.text("time_shift_type", "exponential");
  if (type != "exponential" && type != "linear")
    throw Error(
        fmt::format("{}: time_shift_type = \"{}\" is not supported (only exponential, linear)", where, type));
  time_shift = type == "linear" ? TimeShift::Linear : TimeShift::Exponential;
  for (const char* key :
       {"use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "stochastic_sampling"})
    config.only(key, false);
  config.require_all_read();
}

double FlowMatchEulerConfig::mu(int64_t image_tokens) const {
  const double slope = (max_shift - base_shift) / double(max_image_seq_len - base_image_seq_len);
  const double offset = base_shift - slope * double(base_image_seq_len);
  return double(image_tokens) * slope + offset;
}

std::vector<double> linear_sigmas(int steps) {
  return linspace(1.0, 1.0 / steps, steps);
}

FlowMatchEuler::FlowMatchEuler(const FlowMatchEulerConfig& config, const FlowMatchSteps& steps) {
  if (config.use_dynamic_shifting && !steps.mu)
    throw Error(config.where + ": use_dynamic_shifting needs a shift for the picture's size, mu");
  Tensor s = base_sigmas(config, steps);
  s = config.use_dynamic_shifting ? shifted_by_mu(s, config, *steps.mu) : shifted(s, config.shift);
  if (config.shift_terminal != 0) s = stretched(s, config.shift_terminal);
  s = s.to(at::kFloat);
  if (config.invert_sigmas) s = 1.0 - s;
  const Tensor t = (s * double(config.num_train_timesteps)).to(at::kDouble);
  timesteps_.assign(t.const_data_ptr<double>(), t.const_data_ptr<double>() + t.numel());
  sigmas_ = at::cat({s, at::full({1}, config.invert_sigmas ? 1.0 : 0.0, at::kFloat)});
}

at::Tensor FlowMatchEuler::sigma(int64_t i, const at::Device& device) const {
  TORCH_CHECK(i >= 0 && i < sigmas_.numel(), "no sigma ", i, " of ", sigmas_.numel());
  if (!device_sigmas_.defined() || device_sigmas_.device() != device) device_sigmas_ = sigmas_.to(device);
  return device_sigmas_.select(0, i);
}

at::Tensor FlowMatchEuler::step(const at::Tensor& prediction, int i, const at::Tensor& latents,
                                at::Generator& /*generator*/) {
  const auto device = latents.device();
  // A 0-dim tensor on the latents' own device, as in diffusers: it does not promote a half prediction, and
  // CUDA rounds it to that dtype before the product.
  const Tensor dt = sigma(i + 1, device) - sigma(i, device);
  return (latents.to(at::kFloat) + dt * prediction).to(prediction.scalar_type());
}

at::Tensor FlowMatchEuler::denoised(const at::Tensor& prediction, int i, const at::Tensor& latents) const {
  const auto device = latents.device();
  const Tensor left = sigma(sigmas_.size(0) - 1, device) - sigma(i, device);
  return latents.to(at::kFloat) + left * prediction.to(at::kFloat);
}

}  // namespace sagelab
