// SPDX-License-Identifier: Apache-2.0
// How much memory a device has, and how much of it is free for us.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace sagelab {

struct DeviceMemory {
  int64_t total = 0;  // bytes; on CPU within the control group's limit
  int64_t free = 0;   // that we can still take: on CUDA with what LibTorch keeps cached
};
DeviceMemory device_memory(at::Device device);
int64_t available_memory(at::Device device);  // device_memory(device).free

// The largest resident set of this process so far, in bytes.
int64_t process_peak_bytes();

// "11.14 GB", "431 MB", "12 bytes": powers of ten, as disks and checkpoints are measured.
std::string human_bytes(int64_t bytes);

}  // namespace sagelab
