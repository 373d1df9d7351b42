// SPDX-License-Identifier: Apache-2.0
// Time on a device: its own events on CUDA, a clock on the CPU.
#pragma once

#include <c10/core/Device.h>

#include <functional>

#include "app/report/median.h"

namespace sagelab {

// Seconds of calls that a GPU's clock needs to settle at what they draw: at its power limit it keeps for a
// while the clock that the calls before left it.
constexpr double kSettleSeconds = .2;

// Starts body on the device's current stream and does not wait for it. The function returned waits and gives
// its seconds.
std::function<double()> start_timed(const at::Device& device, const std::function<void()>& body);
// The same, waited for.
double seconds_of(const at::Device& device, const std::function<void()>& body);
void wait_for(const at::Device& device);

}  // namespace sagelab
