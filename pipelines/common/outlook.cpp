// SPDX-License-Identifier: Apache-2.0
#include "pipelines/common/outlook.h"

#include <algorithm>

#include "attention/dtype.h"
#include "attention/joint.h"
#include "attention/registry.h"
#include "pipelines/core/checkpoint/source_stored.h"
#include "pipelines/footprint.h"

namespace sagelab {
namespace {

template <class Bytes>
int64_t most_of_backends(const Request& request, const Bytes& bytes) {
  int64_t most = bytes(*attention::make_backend(request.attention));
  for (const auto& planned : switches_of(request)) most = std::max(most, bytes(*planned.backend));
  return most;
}

bool streams_layers(const Request& request) {
  return request.offload == "layers" && request.device != "cpu";
}

}  // namespace

void choose_for_memory(Request& r, const std::function<Peaks(const Request&)>& peaks, int64_t available) {
  const auto fits = [&](const Request& asked, const std::string& phase) {
    for (const auto& [name, bytes] : peaks(asked))
      if ((phase.empty() || name == phase) && bytes > available) return false;
    return true;
  };
  if (r.vae_tiling == "auto") {
    r.vae_tiling = "off";
    Request alone = r;  // the decoding beside what stays at all events
    if (frees_encoders(r)) alone.offload = "auto";
    if (!fits(alone, "decode")) r.vae_tiling = "on";
  }
  if (r.offload == "auto") {
    r.offload = "none";
    if (!fits(r, "")) r.offload = "encoders";
    if (!fits(r, "denoise") && r.device != "cpu") r.offload = "layers";
  }
}

bool frees_encoders(const Request& request) {
  return request.offload == "encoders" || request.offload == "layers";
}

Peaks peaks_of(const Needs& needs, const Request& request, int64_t available) {
  const bool keeps = request.offload == "none";
  const int64_t encoders = keeps ? needs.encoders : 0, decode = needs.vae + needs.decode;
  // Few of streamed blocks are on the device, and bringing all of them to the host again takes long.
  const bool stays = keeps || (streams_layers(request) && decode + needs.transformer <= available);
  const int64_t until_freed = frees_encoders(request) ? needs.transformer : 0;
  return {{"encode", needs.encoders + needs.encode},
          {"denoise", encoders + needs.transformer + needs.denoise},
          {"decode", stays ? decode + encoders + needs.transformer : std::max(decode, until_freed)}};
}

int64_t peak_among_others(const Family& family, const Request& request, int64_t available) {
  const Plan plan = family.plan(request);
  int64_t peak = plan.peak_bytes(), transformer = 0, vae = 0;
  if (!frees_encoders(request) || streams_layers(request)) return peak;
  for (const auto& component : plan.components) {
    if (component.name == "transformer") transformer = component.bytes;
    if (component.name == "vae") vae = component.bytes;
  }
  Request alone = request;
  alone.offload = "auto";  // peaks are those of each phase by itself
  for (const auto& [phase, bytes] : family.plan(alone).peak_by_phase) {
    const int64_t all = bytes + (phase == "denoise" ? 0 : transformer) + (phase == "decode" ? 0 : vae);
    if (all <= available) peak = std::max(peak, all);
  }
  return peak;
}

Plan::Component component_of(const std::string& name, const std::vector<TensorInfo>& files, int64_t bytes,
                             std::string_view doubled) {
  Plan::Component component;
  component.name = name;
  component.bytes = bytes;
  for (const TensorInfo& tensor : files) {
    int64_t elements = 1;
    for (const int64_t size : tensor.shape) elements *= size;
    if (tensor.key != doubled && !is_scale_key(tensor.key)) component.parameters += elements;
    component.file_bytes += tensor.bytes;
  }
  return component;
}

int64_t joint_bytes(const Request& request, const attention::Problem& problem, bool rotated) {
  return most_of_backends(
      request, [&](const attention::Backend& backend) { return backend.joint_bytes(problem, rotated); });
}

int64_t run_bytes(const Request& request, const attention::Problem& problem) {
  return most_of_backends(request,
                          [&](const attention::Backend& backend) { return backend.run_bytes(problem); });
}

int64_t captured_bytes(const attention::Problem& problem, bool rotated, int64_t v_bytes) {
  const attention::GatherBytes gathered = attention::gather_bytes(problem, rotated);
  return std::max(gathered.peak, gathered.kept + v_bytes);
}

void settle(Request& r, const Outlook& outlook) {
  const Target target = resolve_target(r);
  r.device = device_name(target.device);
  r.dtype = dtype_name(target.dtype);
  if (r.attention.empty()) r.attention = attention::default_spec(target.device);
  for (const attention::Problem& problem : outlook.problems(r, target)) {
    attention::require_supported(*attention::make_backend(r.attention), problem);
    for (const auto& planned : switches_of(r)) attention::require_supported(*planned.backend, problem);
  }
  const int64_t available = memory_for_tensors(target.device);
  choose_for_memory(
      r, [&](const Request& asked) { return outlook.peaks(asked, available); }, available);
}

}  // namespace sagelab
