// SPDX-License-Identifier: Apache-2.0
// From tensors to the kernels (kernels.h), on the device's current stream. launch_none.cpp stands in where
// the build has none.
#pragma once

#include <c10/core/Device.h>

#include <functional>
#include <string>

#include "attention/attention.h"
#include "attention/study/stages/variant.h"

namespace sagelab::attention::study {

// Why this build cannot launch anything; empty if it can.
std::string stages_not_built();
std::function<void(Variant)> launch_stages(const Call& call);
// Ticks per second, over so many seconds in which work is begun.
double launch_clock_beside(const at::Device& device, const std::function<void()>& work, double seconds);
int processors_of(const at::Device& device);

}  // namespace sagelab::attention::study
