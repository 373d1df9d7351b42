// SPDX-License-Identifier: Apache-2.0
// sage2 on CUDA: from tensors to the kernels (kernels.h), on the current stream. launch_none.cpp stands in
// where the build has none.
#pragma once

#include <functional>
#include <string>

#include "attention/joint.h"
#include "attention/sage2/quantized.h"
#include "attention/sage2/settings.h"

namespace sagelab::attention::sage2 {

// Why this build cannot launch anything; empty if it can.
std::string launch_unsupported();

// q, k, v: bf16 or fp16, head dimension a multiple of 8 up to 128. Writes to call.out where it is given.
Output launch(const Call& call, const Settings& settings);

// Norm, RoPE and concatenation happen in the quantization itself. False, and nothing done, where the call has
// too many segments or outs that the kernels cannot write to: then gather it first.
bool launch_joint(const JointCall& call, const Settings& settings);

struct AttentionParams;
using Attend = std::function<void(const AttentionParams&)>;
// Quantizes, and returns what runs the attention kernel alone on the result: attend, or the settings' own.
std::function<void()> prepare(const Call& call, const Settings& settings, Attend attend = {});

// For tests and tools: what the attention kernels are given. Tokens there must be, in q and in k.
Quantized quantize_on_cuda(const Call& call, const Settings& settings);
Quantized quantize_on_cuda(const JointCall& call, const Settings& settings);

}  // namespace sagelab::attention::sage2
