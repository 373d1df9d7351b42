// SPDX-License-Identifier: Apache-2.0
// Single matrix instructions on plain memory: what the study of accumulators launches. No Torch header.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "attention/study/accumulator/instruction.h"

namespace sagelab::attention::study {

constexpr int kStepBytes = 32;    // of a row of A and of B in one instruction, whatever their type
constexpr int kProductRows = 64;  // rows of P of a thread block
constexpr int kProductColumns = 64;
constexpr int kProbeBlock = 4096;  // values of D of a thread block

// out = a b + d by one instruction for each value; a and b stand at the same place of every row, all else is
// zero.
struct ProbeParams {
  const float* d = nullptr;  // [count], a multiple of kProbeBlock
  float* out = nullptr;      // [count]
  int64_t count = 0;
  uint32_t a = 0, b = 0;  // the bits of one element of the instruction's type
};

// out = p v^T, added up in the accumulator over flush_steps steps, then in fp32.
struct ProductParams {
  const uint8_t* p =
      nullptr;  // [rows, steps * kStepBytes], of the instruction's type; rows: a multiple of 64
  const uint8_t* v = nullptr;  // [kProductColumns, steps * kStepBytes]
  float* out = nullptr;        // [rows, kProductColumns]
  int64_t rows = 0, steps = 0, flush_steps = 0;
};

// mma.sync. The instruction is one of Mma*.
cudaError_t launch_probe_mma(Instruction instruction, const ProbeParams& params, cudaStream_t stream);
cudaError_t launch_product_mma(Instruction instruction, const ProductParams& params, cudaStream_t stream);
// wgmma. steps and flush_steps: any.
cudaError_t launch_probe_wgmma(const ProbeParams& params, cudaStream_t stream);
cudaError_t launch_product_wgmma(const ProductParams& params, cudaStream_t stream);

}  // namespace sagelab::attention::study
