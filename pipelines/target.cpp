// SPDX-License-Identifier: Apache-2.0
// Which device and dtype a request means on this machine. Apart from the table, so that families may ask.
#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

#include "attention/error.h"
#include "pipelines/common/weights/weight_files.h"
#include "pipelines/registry.h"

namespace sagelab {
namespace {

constexpr const char* kTransformerStem = "diffusion_pytorch_model";

int cuda_devices() {
  return at::hasCUDA() ? int(at::detail::getCUDAHooks().deviceCount()) : 0;
}

// Why CUDA does not start: LibTorch's own words, up to the first full stop.
std::string no_cuda_reason() {
  if (!at::globalContext().hasCUDART()) return "this build has no CUDA";
  try {
    at::globalContext().lazyInitDevice(at::kCUDA);
  } catch (const c10::Error& e) {
    const std::string text = e.what_without_backtrace();
    return text.substr(0, text.find_first_of(".\n"));
  }
  return "LibTorch finds no CUDA device";
}

at::Device cuda_device(const std::string& asked) {
  const int count = cuda_devices();
  if (count == 0)
    throw Error(fmt::format("device {} was asked for, but there is none: {}", asked, no_cuda_reason()),
                "use --device cpu, or run on a machine with an NVIDIA GPU and its driver");
  int index = 0;
  if (asked != "cuda") {
    const std::string digits = asked.substr(5);
    if (digits.empty() || digits.size() > 3 || digits.find_first_not_of("0123456789") != std::string::npos)
      throw Error(fmt::format("device is \"{}\", not one of: auto, cpu, cuda, cuda:N", asked));
    index = std::stoi(digits);
  }
  if (index >= count)
    throw Error(fmt::format("device {} was asked for, but this machine has {} CUDA device{}", asked, count,
                            count == 1 ? "" : "s"),
                fmt::format("use cuda:0{}", count == 1 ? "" : fmt::format(" to cuda:{}", count - 1)));
  return {at::kCUDA, static_cast<c10::DeviceIndex>(index)};
}

at::Device device_of(const std::string& asked) {
  if (asked == "cpu") return at::kCPU;
  if (asked == "auto") return cuda_devices() ? cuda_device("cuda") : at::Device(at::kCPU);
  if (asked == "cuda" || asked.starts_with("cuda:")) return cuda_device(asked);
  throw Error(fmt::format("device is \"{}\", not one of: auto, cpu, cuda, cuda:N", asked));
}

// The dtype that holds most of the transformer's bytes.
at::ScalarType checkpoint_dtype(const Request& request) {
  std::map<std::string, int64_t> bytes;
  for (const TensorInfo& tensor :
       WeightFiles(request).list("transformer", kTransformerStem, {{}, kOriginalTransformerPrefixes}))
    bytes[tensor.dtype] += tensor.bytes;
  const auto most = std::max_element(bytes.begin(), bytes.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most == bytes.end()) return at::kFloat;
  if (most->first == "F16") return at::kHalf;
  if (most->first == "F32" || most->first == "F64") return at::kFloat;
  return at::kBFloat16;  // BF16, and the 8-bit types, which are stored scaled-down bfloat16
}

}  // namespace

std::string device_name(const at::Device& device) {
  return device.is_cuda() ? fmt::format("cuda:{}", std::max<int>(device.index(), 0)) : "cpu";
}

Target resolve_target(const Request& request) {
  Target target{device_of(request.device), at::kFloat};
  // On a CPU all weights are in host memory as it is.
  target.streamed = request.offload == "layers" && !target.device.is_cpu();
  if (request.dtype == "fp16")
    target.dtype = at::kHalf;
  else if (request.dtype == "bf16")
    target.dtype = at::kBFloat16;
  else if (request.dtype == "auto")
    target.dtype = target.device.is_cpu() ? at::kFloat : checkpoint_dtype(request);
  else if (request.dtype != "fp32")
    throw Error(fmt::format("dtype is \"{}\", not one of: auto, fp32, fp16, bf16", request.dtype));
  return target;
}

int64_t Plan::peak_bytes() const {
  int64_t peak = 0;
  for (const auto& [phase, bytes] : peak_by_phase) peak = std::max(peak, bytes);
  return peak;
}

void Plan::expect_capture() {
  for (auto& [phase, bytes] : peak_by_phase)
    if (phase == "denoise") bytes += capture_bytes;
}

std::vector<attention::PlannedSwitch> switches_of(const Request& request) {
  return attention::planned_switches(request.attention_at, request.attention_switch == "call");
}

}  // namespace sagelab
