// SPDX-License-Identifier: Apache-2.0
#include "attention/registry.h"

#include <fmt/format.h>

#include <array>

#include "attention/aten/reference.h"
#include "attention/aten/sdpa.h"
#include "attention/aten/unfused.h"
#include "attention/sage2/sage2.h"
#include "attention/spec.h"
#include "attention/wrap/check.h"
#include "attention/wrap/prefer.h"
#include "attention/wrap/schedule.h"
#include "attention/wrap/timed.h"

#ifdef SAGELAB_CUDA
#include <cuda_runtime_api.h>
#endif

namespace sagelab::attention {

namespace {

// About twice what was measured: fp32 by the rounding of its sums, half precisions by that of the
// probabilities and of the output. sage2: 1.5 times what its twin on the CPU shows.
constexpr std::array<Entry, 13> kBackends{{
    {"sdpa", "LibTorch's fastest kernel for the call", 5e-6, 4e-3, 5e-4},
    {"sdpa(flash)", "LibTorch's FlashAttention", 2e-6, 4e-3, 5e-4},
    {"sdpa(cudnn)", "cuDNN's fused attention (CUDA)", 2e-6, 4e-3, 5e-4},
    {"sdpa(efficient)", "LibTorch's memory-efficient attention (CUDA)", 5e-6, 4e-3, 5e-4},
    {"sdpa(math)", "LibTorch's unfused matrix products", 2e-6, 4e-3, 5e-4},
    {"sage2", "SageAttention2, INT8 and FP8, as Hopper computes it (on CPU emulated: quality, not speed)",
     .058, .058, .058, .065, 1.9},
    {"sage2(mean=full,smooth_v=off,v=channel,sum=fp32)",
     "SageAttention2 as in its paper, Hopper's kernel (on CPU emulated: quality, not speed)", .058, .058,
     .058, .065, 1.9},
    {"sage2(arch=sm80)", "INT8 and FP16, as Ampere computes it (on CPU emulated: quality, not speed)", .017,
     .017, .017, .065, 6},
    {"sage2(arch=sm89)", "INT8 and FP8, as Ada computes it (on CPU emulated: quality, not speed)", .057, .057,
     .057, .065, 1.9},
    {"sage2(arch=sm89,pv=fp8half)",
     "SageAttention2++, FP8 summed in FP16 (on CPU emulated: quality, not speed)", .058, .058, .058, .065,
     1.9},
    {"sage2(qk=int4)", "INT4 and FP8, Q and K smoothed (on CPU emulated: quality, not speed)", .31, .31, .31,
     1.2, 3.2},
    {"sage2(arch=sm80,qk=int4)", "INT4 and FP16, Q and K smoothed (on CPU emulated: quality, not speed)", .31,
     .31, .31, 1.2, 3.2},
    {"reference", "fp64 by the definition, slow: the truth for tests and checks", 1e-7, 3e-3, 4e-4},
}};

struct Maker {
  std::string_view name;
  BackendPtr (*make)(Arguments&);
  bool offered = true;  // to whoever names what there is not; one for benches alone is not
};
constexpr std::array<Maker, 8> kMakers{{
    {"sdpa", make_sdpa},
    {"sage2", make_sage2},
    {"reference", make_reference},
    {"prefer", make_prefer},
    {"check", make_check},
    {"timed", make_timed},
    {"schedule", make_schedule},
    {"unfused", make_unfused, false},
}};

}  // namespace

std::span<const Entry> backends() {
  return kBackends;
}

int compute_capability(const at::Device& device) {
#ifdef SAGELAB_CUDA
  if (!device.is_cuda()) return 0;
  int index = device.index(), major = 0, minor = 0;
  const bool known =
      (index >= 0 || cudaGetDevice(&index) == cudaSuccess) &&
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index) == cudaSuccess &&
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index) == cudaSuccess;
  if (known) return major * 10 + minor;
  cudaGetLastError();  // or the next launch check would find this one's error
#endif
  (void)device;
  return 0;
}

BackendPtr make_backend(const Spec& spec, std::string_view text) {
  Arguments arguments(spec, text);
  std::string known;
  for (const Maker& m : kMakers) {
    if (m.name == spec.name) return m.make(arguments);
    if (m.offered) known += (known.empty() ? "" : ", ") + std::string(m.name);
  }
  arguments.fail(fmt::format("there is no backend '{}'", spec.name), spec.position, "there are " + known);
}

BackendPtr make_backend(std::string_view spec) {
  return make_backend(parse_spec(spec), spec);
}

std::string default_spec(const at::Device& device) {
  return device.is_cuda() ? "prefer(sage2,sdpa)" : "sdpa";
}

}  // namespace sagelab::attention
