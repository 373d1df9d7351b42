// SPDX-License-Identifier: Apache-2.0
#include "pipelines/cogvideox/sampler.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "attention/error.h"

namespace sagelab::cogvideox {
namespace {

using at::Tensor;

[[noreturn]] void refuse(const std::string& where, const char* key, const std::string& value,
                         const char* known) {
  throw Error(fmt::format("{}: {} = \"{}\" is not supported", where, key, value),
              std::string("known: ") + known);
}

SamplerConfig::Betas betas_from(Config& config) {
  const std::string name = config.text("beta_schedule", "scaled_linear");
  if (name == "linear") return SamplerConfig::Betas::Linear;
  if (name == "scaled_linear") return SamplerConfig::Betas::ScaledLinear;
  if (name == "squaredcos_cap_v2") return SamplerConfig::Betas::SquaredCosine;
  refuse(config.where(), "beta_schedule", name, "linear, scaled_linear, squaredcos_cap_v2");
}

SamplerConfig::Prediction prediction_from(Config& config) {
  const std::string name = config.text("prediction_type", "epsilon");
  if (name == "epsilon") return SamplerConfig::Prediction::Epsilon;
  if (name == "sample") return SamplerConfig::Prediction::Sample;
  if (name == "v_prediction") return SamplerConfig::Prediction::V;
  refuse(config.where(), "prediction_type", name, "epsilon, sample, v_prediction");
}

SamplerConfig::Spacing spacing_from(Config& config) {
  const std::string name = config.text("timestep_spacing", "leading");
  if (name == "linspace") return SamplerConfig::Spacing::Linspace;
  if (name == "leading") return SamplerConfig::Spacing::Leading;
  if (name == "trailing") return SamplerConfig::Spacing::Trailing;
  refuse(config.where(), "timestep_spacing", name, "linspace, leading, trailing");
}

Tensor cosine_betas(int64_t count) {
  const auto alpha_bar = [](double t) {
    return std::pow(std::cos((t + 0.008) / 1.008 * std::numbers::pi / 2), 2.0);
  };
  std::vector<double> betas(count);
  for (int64_t i = 0; i < count; ++i) {
    betas[i] =
        std::min(1 - alpha_bar(double(i + 1) / double(count)) / alpha_bar(double(i) / double(count)), 0.999);
  }
  return at::tensor(betas, at::kDouble).to(at::kFloat);
}

Tensor make_betas(const SamplerConfig& c) {
  switch (c.betas) {
    case SamplerConfig::Betas::Linear:  // fp32, unlike the others' fp64: as in diffusers
      return at::linspace(c.beta_start, c.beta_end, c.num_train_timesteps, at::kFloat);
    case SamplerConfig::Betas::ScaledLinear:
      return at::linspace(std::sqrt(c.beta_start), std::sqrt(c.beta_end), c.num_train_timesteps, at::kDouble)
          .square();
    case SamplerConfig::Betas::SquaredCosine:
      return cosine_betas(c.num_train_timesteps);
  }
  TORCH_CHECK(false, "unknown beta schedule");
}

// Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed", algorithm 1, on alpha bar.
Tensor rescale_zero_terminal_snr(const Tensor& alphas) {
  Tensor root = alphas.sqrt();
  const Tensor first = root[0].clone(), last = root[-1].clone();
  root = (root - last) * (first / (first - last));
  return root.square();
}

Tensor make_alphas(const SamplerConfig& c) {
  Tensor alphas = (1.0 - make_betas(c)).cumprod(0);
  alphas = alphas / (c.snr_shift_scale + (1 - c.snr_shift_scale) * alphas);
  return c.rescale_betas_zero_snr ? rescale_zero_terminal_snr(alphas) : alphas;
}

// np.round(np.arange(train, 0, -train / steps)) - 1, with NumPy's own rule for the length (floating error can
// add an element) and for the values: every one is start + i * delta, where delta is the rounded second minus
// first.
std::vector<double> trailing_timesteps(int64_t train, int steps) {
  const double start = double(train), step = double(train) / steps;
  const int64_t count = int64_t(std::ceil((0.0 - start) / -step));
  const double delta = (start - step) - start;
  std::vector<double> out(count);
  for (int64_t i = 0; i < count; ++i) {
    out[i] = std::nearbyint(i == 1 ? start - step : start + double(i) * delta) - 1;
  }
  return out;
}

std::vector<double> make_timesteps(const SamplerConfig& c, int steps) {
  if (c.spacing == SamplerConfig::Spacing::Trailing) return trailing_timesteps(c.num_train_timesteps, steps);
  std::vector<double> out(steps);
  for (int i = 0; i < steps; ++i) {
    const int k = steps - 1 - i;
    if (c.spacing == SamplerConfig::Spacing::Leading) {
      out[i] = double(k * (c.num_train_timesteps / steps) + c.steps_offset);
    } else {
      const double end = double(c.num_train_timesteps - 1);
      out[i] = steps == 1 ? 0 : std::nearbyint(i == 0 ? end : k * (end / (steps - 1)));
    }
  }
  return out;
}

Tensor randn_like_latents(const Tensor& latents, const at::Generator& generator) {
  const auto options = latents.options().device(generator.device());
  return at::randn(latents.sizes(), generator, options).to(latents.device());
}

Tensor log_snr(const Tensor& alpha) {
  return (alpha / (1 - alpha)).pow(0.5).log();
}

}  // namespace

SamplerConfig::SamplerConfig(Config& config)
    : where(config.where()),
      num_train_timesteps(config.integer("num_train_timesteps", 1000)),
      steps_offset(config.integer("steps_offset", 0)),
      beta_start(config.number("beta_start", 0.00085)),
      beta_end(config.number("beta_end", 0.012)),
      snr_shift_scale(config.number("snr_shift_scale", 3.0)),
      betas(betas_from(config)),
      prediction(prediction_from(config)),
      spacing(spacing_from(config)),
      set_alpha_to_one(config.boolean("set_alpha_to_one", true)),
      rescale_betas_zero_snr(config.boolean("rescale_betas_zero_snr", false)) {
  config.only("trained_betas", nullptr);
  // Both classes register these and never look at them.
  config.ignore({"clip_sample", "clip_sample_range", "sample_max_value"});
  config.require_all_read();
  constexpr int64_t kMostTimesteps = 1'000'000;
  if (num_train_timesteps > kMostTimesteps) {
    throw Error(fmt::format("{}: num_train_timesteps = {} should be at most {}", where, num_train_timesteps,
                            kMostTimesteps));
  }
  if (num_train_timesteps < 1) {
    throw Error(fmt::format("{}: num_train_timesteps = {} is not positive", where, num_train_timesteps));
  }
}

Schedule::Schedule(const SamplerConfig& config, int steps) : prediction_(config.prediction) {
  if (steps < 1 || steps > config.num_train_timesteps) {
    throw Error(
        fmt::format("{} steps are not possible with this scheduler", steps),
        fmt::format("give 1 to {} (num_train_timesteps in {})", config.num_train_timesteps, config.where));
  }
  stride_ = config.num_train_timesteps / steps;
  alphas_ = make_alphas(config);
  final_alpha_ = config.set_alpha_to_one ? at::ones({}, at::kFloat) : alphas_[0];
  timesteps_ = make_timesteps(config, steps);
  for (const double t : timesteps_) {
    if (t >= double(config.num_train_timesteps)) {
      throw Error(fmt::format("{}: steps_offset = {} puts timestep {} beyond the last, {}", config.where,
                              config.steps_offset, t, config.num_train_timesteps - 1));
    }
    if (prediction_ == SamplerConfig::Prediction::Epsilon && alphas_[int64_t(t)].item<double>() == 0) {
      throw Error(
          fmt::format("{}: prediction_type \"epsilon\" divides by zero at timestep {}", config.where, t),
          "with rescale_betas_zero_snr only v_prediction and sample are possible there");
    }
  }
}

at::Tensor Schedule::alpha(int i) const {
  return alphas_[int64_t(timesteps_.at(i))];
}

at::Tensor Schedule::next_alpha(int i) const {
  return last(i) ? final_alpha_ : alphas_[int64_t(timesteps_.at(i)) - stride_];
}

// The step's length is the same whatever the spacing, so it need not end at the next timestep.
bool Schedule::last(int i) const {
  return int64_t(timesteps_.at(i)) - stride_ < 0;
}

at::Tensor Schedule::denoised(const at::Tensor& prediction, int i, const at::Tensor& latents) const {
  const Tensor a = alpha(i), b = 1 - a;
  switch (prediction_) {
    case SamplerConfig::Prediction::Epsilon:
      return (latents - b.pow(0.5) * prediction) / a.pow(0.5);
    case SamplerConfig::Prediction::Sample:
      return prediction;
    case SamplerConfig::Prediction::V:
      return a.pow(0.5) * latents - b.pow(0.5) * prediction;
  }
  TORCH_CHECK(false, "unknown prediction type");
}

at::Tensor DdimSampler::step(const at::Tensor& prediction, int i, const at::Tensor& latents,
                             at::Generator& /*generator*/) {
  const Tensor clean = schedule_.denoised(prediction, i, latents);
  const Tensor a = schedule_.alpha(i), next = schedule_.next_alpha(i);
  const Tensor keep = ((1 - next) / (1 - a)).pow(0.5);
  const Tensor add = next.pow(0.5) - a.pow(0.5) * keep;
  return (keep * latents + add * clean).to(latents.scalar_type());
}

at::Tensor DpmSampler::step(const at::Tensor& prediction, int i, const at::Tensor& latents,
                            at::Generator& generator) {
  if (i == 0) previous_.reset();
  TORCH_CHECK(i == 0 || previous_.defined(), "DPM steps must come in order: step ", i, " has no predecessor");
  Tensor clean = schedule_.denoised(prediction, i, latents);
  const Tensor a = schedule_.alpha(i), next = schedule_.next_alpha(i);
  // h is infinite where a is 0 (zero terminal SNR) or next is 1; exp and expm1 then give the limits.
  const Tensor h = log_snr(next) - log_snr(a);
  const Tensor keep = ((1 - next) / (1 - a)).pow(0.5) * (-h).exp();
  const Tensor add = (-2 * h).expm1() * next.pow(0.5);
  const Tensor spread = (1 - next).pow(0.5) * (1 - (-2 * h).exp()).pow(0.5);

  Tensor noise = randn_like_latents(latents, generator);
  Tensor target = clean;
  if (i > 0 && !schedule_.last(i)) {
    // diffusers makes a first-order result before it looks whether there is a second: the generator moves on
    // twice.
    noise = randn_like_latents(latents, generator);
    const Tensor r = (log_snr(a) - log_snr(schedule_.alpha(i - 1))) / h;
    target = (1 + 1 / (2 * r)) * clean - (1 / (2 * r)) * previous_;
  }
  previous_ = std::move(clean);
  return (keep * latents - add * target + spread * noise).to(latents.scalar_type());
}

std::map<std::string, at::Tensor> DpmSampler::memory() const {
  if (!previous_.defined()) return {};
  return {{"previous", previous_}};
}

void DpmSampler::restore(const std::map<std::string, at::Tensor>& memory) {
  if (memory.size() != 1 || memory.begin()->first != "previous")
    throw Error("the sampler DPM goes on from \"previous\" alone");
  previous_ = memory.begin()->second;
}

std::unique_ptr<Sampler> make_sampler(Config config, std::string_view class_name, int steps) {
  TORCH_CHECK(class_name == kDdimClass || class_name == kDpmClass, "no scheduler class ", class_name);
  const SamplerConfig parsed(config);
  if (class_name == kDpmClass) return std::make_unique<DpmSampler>(parsed, steps);
  return std::make_unique<DdimSampler>(parsed, steps);
}

}  // namespace sagelab::cogvideox
