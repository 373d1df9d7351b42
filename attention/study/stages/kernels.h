// SPDX-License-Identifier: Apache-2.0
// Variants of Hopper's kernel and a look at the clock, on plain memory. No Torch header.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "attention/sage2/kernels.h"
#include "attention/study/stages/variant.h"

namespace sagelab::attention::study {

// Of the padded head dimension; V scaled by channel, its row sum from the tensor cores. A translation unit
// each.
cudaError_t launch_variant_dim64(Variant variant, const sage2::AttentionParams& params, cudaStream_t stream);
cudaError_t launch_variant_dim128(Variant variant, const sage2::AttentionParams& params, cudaStream_t stream);

struct Elapsed {
  uint64_t ticks = 0, nanoseconds = 0;  // of the processor, of the device's timer
};
// One thread looks at both for so long.
cudaError_t launch_clock(Elapsed* elapsed, uint64_t nanoseconds, cudaStream_t stream);

}  // namespace sagelab::attention::study
