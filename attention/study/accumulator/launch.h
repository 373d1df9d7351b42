// SPDX-License-Identifier: Apache-2.0
// From tensors to the kernels (kernels.h), on the device's current stream. launch_none.cpp stands in where
// the build has none.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "attention/study/accumulator/instruction.h"

namespace sagelab::attention::study {

// Why this build cannot launch anything; empty if it can.
std::string accumulators_not_built();
// d fp32 on a CUDA device. a, b: bits of one element of the instruction's type.
at::Tensor launch_probe(Instruction instruction, const at::Tensor& d, uint32_t a, uint32_t b);
// p [rows, keys], v [kChannels, keys] of the instruction's type, contiguous.
at::Tensor launch_product(Instruction instruction, const at::Tensor& p, const at::Tensor& v,
                          int64_t flush_keys);

}  // namespace sagelab::attention::study
