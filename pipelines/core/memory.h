// SPDX-License-Identifier: Apache-2.0
// How much memory a device has, how much of it is free for us, and the most that we have had.
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

// Bytes in use now, and their peak since the last reset (or the start). CPU: resident memory of the process.
// CUDA: LibTorch's allocations.
int64_t used_memory(at::Device device);
int64_t peak_memory(at::Device device);
// False where the system does not allow it: then peak_memory counts from the process's start.
bool reset_peak_memory(at::Device device);

// Hands what was freed here back to the system (CPU) or to the driver (CUDA). Allocators keep it otherwise.
void give_back_memory(at::Device device);

// "11.14 GB", "431 MB", "12 bytes": powers of ten, as disks and checkpoints are measured.
std::string human_bytes(int64_t bytes);

}  // namespace sagelab
