// SPDX-License-Identifier: Apache-2.0
// The latents of one run after each of its steps, on the CPU, and how far another run is from them. At full
// size that is some MB a step.
#pragma once

#include <vector>

#include "attention/recorder.h"
#include "pipelines/run.h"

namespace sagelab {

struct StepErrors {
  std::vector<attention::Errors> steps;
  bool identical = true;  // every step's latents, bit by bit
};

class Trajectory {
 public:
  // For the run that the others are compared with. Both: the trajectory and errors must outlive the run.
  StepHooks keep();
  // For another of the same request. locked: each of its steps starts from what the kept run's step before
  // left, so that its error is of this step alone. (A sampler's own memory of the step before stays the
  // run's.)
  StepHooks compare(StepErrors& errors, bool locked) const;

 private:
  std::vector<at::Tensor> kept_;
};

}  // namespace sagelab
