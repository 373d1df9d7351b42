// SPDX-License-Identifier: Apache-2.0
// CogVideoXDDIMScheduler and CogVideoXDPMScheduler of diffusers: one table of alphas, two ways to step
// through it.
//
// Coefficients are 0-dim fp64 CPU tensors, as in diffusers: they do not promote half-precision latents, so
// `coefficient * latents` rounds to the latents' dtype while the terms of the fp32 prediction stay fp32.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "pipelines/core/config.h"
#include "pipelines/core/sampler.h"

namespace sagelab::cogvideox {

// scheduler_config.json. Defaults are diffusers' class defaults (the same for both classes).
struct SamplerConfig {
  enum class Betas { Linear, ScaledLinear, SquaredCosine };
  enum class Prediction { Epsilon, Sample, V };
  enum class Spacing { Linspace, Leading, Trailing };

  std::string where;  // the file, for messages
  int64_t num_train_timesteps = 1000, steps_offset = 0;
  double beta_start = 0.00085, beta_end = 0.012, snr_shift_scale = 3.0;
  Betas betas = Betas::ScaledLinear;
  Prediction prediction = Prediction::Epsilon;
  Spacing spacing = Spacing::Leading;
  bool set_alpha_to_one = true, rescale_betas_zero_snr = false;

  explicit SamplerConfig(Config& config);
};

// The alphas and the timesteps that both samplers share.
class Schedule {
 public:
  // Throws sagelab::Error where steps is not in [1, num_train_timesteps], where a timestep lies outside the
  // table, or where the first step would divide by zero.
  Schedule(const SamplerConfig& config, int steps);

  // alpha bar at step i, and after it; [] fp64 (fp32 for the table of linear betas) on CPU.
  at::Tensor alpha(int i) const;
  at::Tensor next_alpha(int i) const;
  bool last(int i) const;  // the step ends at the final alpha
  // The clean latents that a prediction at step i stands for.
  at::Tensor denoised(const at::Tensor& prediction, int i, const at::Tensor& latents) const;

  const std::vector<double>& timesteps() const { return timesteps_; }
  const at::Tensor& alphas() const { return alphas_; }  // [num_train_timesteps]

 private:
  SamplerConfig::Prediction prediction_;
  int64_t stride_;  // timesteps from one step to the next
  at::Tensor alphas_, final_alpha_;
  std::vector<double> timesteps_;
};

class DdimSampler : public Sampler {
 public:
  DdimSampler(const SamplerConfig& config, int steps) : schedule_(config, steps) {}
  const std::vector<double>& timesteps() const override { return schedule_.timesteps(); }
  at::Tensor step(const at::Tensor& prediction, int i, const at::Tensor& latents,
                  at::Generator& generator) override;
  at::Tensor denoised(const at::Tensor& prediction, int i, const at::Tensor& latents) const override {
    return schedule_.denoised(prediction, i, latents);
  }
  const Schedule& schedule() const { return schedule_; }

 private:
  Schedule schedule_;
};

// SDE DPM-Solver++ (2M). Keeps the previous step's clean latents, so steps come in order, from 0.
class DpmSampler : public Sampler {
 public:
  DpmSampler(const SamplerConfig& config, int steps) : schedule_(config, steps) {}
  const std::vector<double>& timesteps() const override { return schedule_.timesteps(); }
  at::Tensor step(const at::Tensor& prediction, int i, const at::Tensor& latents,
                  at::Generator& generator) override;
  at::Tensor denoised(const at::Tensor& prediction, int i, const at::Tensor& latents) const override {
    return schedule_.denoised(prediction, i, latents);
  }
  std::map<std::string, at::Tensor> memory() const override;
  void restore(const std::map<std::string, at::Tensor>& memory) override;
  const Schedule& schedule() const { return schedule_; }

 private:
  Schedule schedule_;
  at::Tensor previous_;  // clean latents of step i - 1
};

inline constexpr std::string_view kDdimClass = "CogVideoXDDIMScheduler", kDpmClass = "CogVideoXDPMScheduler";

// class_name: one of the two above. What the config says of its own class is not looked at: diffusers makes
// the class that model_index.json names. Throws sagelab::Error for an unknown or unsupported key, and for
// steps out of range.
std::unique_ptr<Sampler> make_sampler(Config config, std::string_view class_name, int steps);

}  // namespace sagelab::cogvideox
