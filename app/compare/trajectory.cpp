// SPDX-License-Identifier: Apache-2.0
#include "app/compare/trajectory.h"

#include <cstring>

#include "attention/wrap/check.h"

namespace sagelab {
namespace {

bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() && a.scalar_type() == b.scalar_type() &&
         std::memcmp(a.const_data_ptr(), b.const_data_ptr(), a.nbytes()) == 0;
}

}  // namespace

StepHooks Trajectory::keep() {
  kept_.clear();
  StepHooks hooks;
  hooks.after = [this](int, const at::Tensor& latents) {
    kept_.push_back(latents.cpu().contiguous().clone());
  };
  return hooks;
}

StepHooks Trajectory::compare(StepErrors& errors, bool locked) const {
  StepHooks hooks;
  if (locked) hooks.before = [this](int i) { return i == 0 ? at::Tensor() : kept_.at(size_t(i) - 1); };
  hooks.after = [this, &errors](int i, const at::Tensor& latents) {
    const at::Tensor ours = latents.cpu().contiguous(), &theirs = kept_.at(size_t(i));
    errors.steps.push_back(attention::errors_from(attention::error_figures(ours, theirs)));
    errors.identical = errors.identical && same_bits(ours, theirs);
  };
  return hooks;
}

}  // namespace sagelab
