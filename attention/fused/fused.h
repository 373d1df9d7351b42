// SPDX-License-Identifier: Apache-2.0
// The one-pass norm + RoPE + gather on CUDA: each projection is read once and written once, in fp32 between.
#pragma once

#include <string>

#include "attention/joint.h"

namespace sagelab::attention {

// Why the kernel cannot take this call; empty if it can (CUDA tensors of fp32, fp16 or bf16, head dim a
// multiple of 8 up to 256, 16-byte aligned rows).
std::string fused_gather_unsupported(const JointCall& call);

// gather() by the kernel. Throws c10::Error where fused_gather_unsupported gives a reason.
Gathered fused_gather(const JointCall& call);

}  // namespace sagelab::attention
