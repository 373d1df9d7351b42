// SPDX-License-Identifier: Apache-2.0
// What this machine has.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace sagelab {

struct DeviceInfo {
  at::Device device = at::kCPU;
  std::string name;        // "NVIDIA H200"
  std::string capability;  // "9.0"; empty for the CPU
  int cores = 0;           // CPU threads or multiprocessors
  int64_t total_bytes = 0, free_bytes = 0;
  int64_t cache_bytes = 0;  // level 2; 0 where the system does not say
};

// The CPU first, then each GPU.
std::vector<DeviceInfo> devices();
DeviceInfo device_info(const at::Device& device);
std::string device_title(const at::Device& device);  // "NVIDIA H200 (cuda:0)"

// Of LibTorch on the CPU: sums are split among them, so their number is part of a result's bits. Set it
// before the first run.
int cpu_threads();
void use_cpu_threads(int count);

// {"sagelab": "0.1.0", "torch": ..., "cuda": ... or null, "libav": ... or null}
nlohmann::json versions();

}  // namespace sagelab
