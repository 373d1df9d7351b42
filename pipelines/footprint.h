// SPDX-License-Identifier: Apache-2.0
// Bytes of tensors on a device. On CUDA the caching allocator's own figures; on CPU a count around LibTorch's
// allocator, so that libraries and page cache do not blur what a plan is compared with.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>

namespace sagelab {

// Starts counting CPU tensors; what was allocated before stays uncounted. Idempotent, thread-safe.
void count_cpu_tensors();

int64_t tensor_bytes(const at::Device& device);       // alive now
int64_t peak_tensor_bytes(const at::Device& device);  // since reset_tensor_peak
void reset_tensor_peak(const at::Device& device);

// What tensors of this process may take in all: memory available now and what they hold already. So an
// automatic choice does not depend on whether a model is loaded.
int64_t memory_for_tensors(const at::Device& device);

}  // namespace sagelab
