// SPDX-License-Identifier: Apache-2.0
// What the parts of Hopper's attention kernel cost: the kernel as it is, and with one part left out, on
// the same operands. Without a part the result is wrong; the rest takes the time it takes.
#pragma once

#include <c10/core/Device.h>

#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "attention/attention.h"
#include "attention/study/stages/variant.h"

namespace sagelab::attention::study {

struct StageVariant {
  Variant variant{};
  std::string_view name;  // "without exponentials"
};
// The first is the kernel as it is.
std::span<const StageVariant> stage_variants();

// Why nothing can be measured on a device; empty if it can.
std::string stages_unsupported(const at::Device& device);
// Quantizes, and returns what runs a variant alone on the result; call.out takes it. q, k, v: bf16 or fp16 on
// a device that stages_unsupported has nothing against, head dimension up to 128.
std::function<void(Variant)> prepare_stages(const Call& call);
// Ticks per second of the device's processors while work, which returns before it is done, is under way.
double clock_rate(const at::Device& device, const std::function<void()>& work);
// Pairs of tiles, of queries and of keys, that each processor meets: what a clock count is divided by.
double tiles_per_processor(const Call& call);

}  // namespace sagelab::attention::study
