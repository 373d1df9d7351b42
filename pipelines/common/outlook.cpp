// SPDX-License-Identifier: Apache-2.0
#include "pipelines/common/outlook.h"

#include <algorithm>

#include "attention/registry.h"

namespace sagelab {

void choose_for_memory(Request& r, const std::function<Peaks(const Request&)>& peaks, int64_t available) {
  const auto fits = [&](const std::string& phase) {
    for (const auto& [name, bytes] : peaks(r))
      if ((phase.empty() || name == phase) && bytes > available) return false;
    return true;
  };
  if (r.vae_tiling == "auto") {
    r.vae_tiling = "off";
    if (!fits("decode")) r.vae_tiling = "on";
  }
  if (r.offload == "auto") {
    r.offload = "none";
    if (!fits("")) r.offload = "encoders";
  }
}

Plan::Component component_of(const std::string& name, const std::vector<TensorInfo>& files, int64_t bytes,
                             std::string_view doubled) {
  Plan::Component component;
  component.name = name;
  component.bytes = bytes;
  for (const TensorInfo& tensor : files) {
    int64_t elements = 1;
    for (const int64_t size : tensor.shape) elements *= size;
    if (tensor.key != doubled) component.parameters += elements;
    component.file_bytes += tensor.bytes;
  }
  return component;
}

int64_t joint_bytes(const Request& request, const attention::Problem& problem, bool rotated) {
  int64_t most = attention::make_backend(request.attention)->joint_bytes(problem, rotated);
  for (const auto& planned : switches_of(request))
    most = std::max(most, planned.backend->joint_bytes(problem, rotated));
  return most;
}

}  // namespace sagelab
