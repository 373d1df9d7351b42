// SPDX-License-Identifier: Apache-2.0
// diffusers FlowMatchEulerDiscreteScheduler: straight lines from noise (sigma 1) to the picture (sigma 0).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pipelines/core/config.h"
#include "pipelines/core/sampler.h"

namespace sagelab {

// scheduler_config.json: every key honoured or refused by name. Defaults are diffusers' class defaults.
struct FlowMatchEulerConfig {
  enum class TimeShift { Exponential, Linear };

  std::string where;  // the file, for messages
  int64_t num_train_timesteps = 1000;
  double shift = 1.0;
  bool use_dynamic_shifting = false;  // mu in place of shift
  double base_shift = 0.5, max_shift = 1.15;
  int64_t base_image_seq_len = 256, max_image_seq_len = 4096;
  bool invert_sigmas = false;  // Mochi: sigmas rise from 0 to 1
  double shift_terminal = 0;   // 0: none
  TimeShift time_shift = TimeShift::Exponential;

  // Throws sagelab::Error naming the file and the key: unknown, of a wrong type, or of a value we do not run
  // (karras, exponential and beta sigmas, stochastic sampling).
  explicit FlowMatchEulerConfig(Config& config);
  // mu for so many image tokens: a line through (base_image_seq_len, base_shift) and (max_image_seq_len,
  // max_shift); calculate_shift of diffusers' FLUX and SD3 pipelines.
  double mu(int64_t image_tokens) const;
};

// What a pipeline asks of the schedule.
struct FlowMatchSteps {
  int steps = 0;
  // As the pipeline passes them, before any shift: FLUX linear_sigmas(steps). Empty: the schedule's own, from
  // its largest sigma to its smallest (SD3).
  std::vector<double> sigmas = {};
  std::optional<double> mu = {};  // needed with use_dynamic_shifting, unread without
};

// NumPy's linspace(1, 1 / steps, steps).
std::vector<double> linear_sigmas(int steps);

class FlowMatchEuler : public Sampler {
 public:
  // Throws sagelab::Error: steps below 1, sigmas of another number, mu missing.
  FlowMatchEuler(const FlowMatchEulerConfig& config, const FlowMatchSteps& steps);

  // fp32 values, sigma * num_train_timesteps: what diffusers hands to its loop. FLUX divides them by 1000 in
  // the latents' dtype, SD3 passes them on.
  const std::vector<double>& timesteps() const override { return timesteps_; }
  // One more than timesteps: the last is where the picture is done.
  const at::Tensor& sigmas() const { return sigmas_; }  // [steps + 1] fp32, CPU
  // latents + (sigma' - sigma) * prediction. The product is rounded to prediction's dtype, the sum is fp32;
  // returns prediction's dtype, as diffusers does. Draws nothing; keeps nothing from step to step.
  at::Tensor step(const at::Tensor& prediction, int i, const at::Tensor& latents,
                  at::Generator& generator) override;
  // fp32: straight on to where the picture is done.
  at::Tensor denoised(const at::Tensor& prediction, int i, const at::Tensor& latents) const override;

 private:
  at::Tensor sigma(int64_t i, const at::Device& device) const;  // [] fp32, without waiting for the device

  std::vector<double> timesteps_;
  at::Tensor sigmas_;
  mutable at::Tensor device_sigmas_;  // where the latents are, once asked for
};

inline constexpr std::string_view kFlowMatchEulerClass = "FlowMatchEulerDiscreteScheduler";

}  // namespace sagelab
