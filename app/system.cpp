// SPDX-License-Identifier: Apache-2.0
#include "app/system.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <torch/headeronly/version.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <thread>

#include "pipelines/core/memory.h"
#ifdef SAGELAB_CUDA
#include <cuda_runtime_api.h>
#endif
#ifdef SAGELAB_FFMPEG
#include "app/media/mp4.h"
#endif

namespace sagelab {
namespace {

// "model name : ..." of the first core.
std::string cpu_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("model name") && line.find(": ") != std::string::npos)
      return line.substr(line.find(": ") + 2);
  return "CPU";
}

DeviceInfo cpu_info() {
  DeviceInfo info;
  info.name = cpu_name();
  info.cores = int(std::thread::hardware_concurrency());
  const auto memory = device_memory(at::kCPU);
  info.total_bytes = memory.total;
  info.free_bytes = memory.free;
  info.cache_bytes = std::max<int64_t>(::sysconf(_SC_LEVEL2_CACHE_SIZE), 0);
  return info;
}

#ifdef SAGELAB_CUDA
int gpu_count() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

DeviceInfo gpu_info(int index) {
  DeviceInfo info;
  info.device = at::Device(at::kCUDA, at::DeviceIndex(index));
  cudaDeviceProp properties{};
  if (cudaGetDeviceProperties(&properties, index) != cudaSuccess) return info;
  info.name = properties.name;
  info.capability = fmt::format("{}.{}", properties.major, properties.minor);
  info.cores = properties.multiProcessorCount;
  info.cache_bytes = properties.l2CacheSize;
  int previous = 0;
  size_t free = 0, total = 0;
  cudaGetDevice(&previous);
  if (cudaSetDevice(index) == cudaSuccess && cudaMemGetInfo(&free, &total) == cudaSuccess) {
    info.free_bytes = int64_t(free);
    info.total_bytes = int64_t(total);
  }
  cudaSetDevice(previous);
  return info;
}

std::string cuda_version() {
  int version = 0;
  cudaRuntimeGetVersion(&version);
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}
#else
int gpu_count() {
  return 0;
}
DeviceInfo gpu_info(int) {
  return {};
}
#endif

}  // namespace

std::vector<DeviceInfo> devices() {
  std::vector<DeviceInfo> all{cpu_info()};
  for (int i = 0; i < gpu_count(); ++i) all.push_back(gpu_info(i));
  return all;
}

DeviceInfo device_info(const at::Device& device) {
  return device.is_cuda() ? gpu_info(device.has_index() ? device.index() : 0) : cpu_info();
}

std::string device_title(const at::Device& device) {
  return fmt::format("{} ({})", device_info(device).name, device.str());
}

int cpu_threads() {
  return at::get_num_threads();
}

void use_cpu_threads(int count) {
  at::set_num_threads(count);
}

nlohmann::json versions() {
  nlohmann::json out{
      {"sagelab", SAGELAB_VERSION}, {"torch", TORCH_VERSION}, {"cuda", nullptr}, {"libav", nullptr}};
#ifdef SAGELAB_CUDA
  out["cuda"] = cuda_version();
#endif
#ifdef SAGELAB_FFMPEG
  out["libav"] = media::libav_version();
#endif
  return out;
}

}  // namespace sagelab
