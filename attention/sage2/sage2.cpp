// SPDX-License-Identifier: Apache-2.0
#include "attention/sage2/sage2.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <vector>

#include "attention/dtype.h"
#include "attention/joint.h"
#include "attention/recorder.h"
#include "attention/registry.h"
#include "attention/sage2/launch.h"
#include "attention/sage2/twin.h"
#include "attention/spec.h"

namespace sagelab::attention {

using sage2::Arch;
using sage2::Settings;

namespace {

constexpr int64_t kMostDim = 128;

bool is_half(at::ScalarType dtype) {
  return dtype == at::kHalf || dtype == at::kBFloat16;
}

// Chips newer than Hopper run Ada's instructions, compiled from PTX.
Arch native_arch(const at::Device& device) {
  const int capability = compute_capability(device);
  if (!device.is_cuda() || capability == 90) return Arch::Sm90;
  return capability >= 89 ? Arch::Sm89 : Arch::Sm80;
}

std::string capability_reason(Arch arch, const at::Device& device) {
  const int capability = compute_capability(device), wanted = arch == Arch::Sm80   ? 80
                                                              : arch == Arch::Sm89 ? 89
                                                                                   : 90;
  if (capability == 0) return fmt::format("there is no device {}", device.str());
  if (arch == Arch::Sm90 ? capability == wanted : capability >= wanted) return {};
  return fmt::format("arch=sm{} needs compute capability {}.{}{}, this is {}.{}", wanted, wanted / 10,
                     wanted % 10, arch == Arch::Sm90 ? "" : " or newer", capability / 10, capability % 10);
}

std::string cuda_reason(const Settings& settings, const Problem& p) {
  if (!is_half(p.dtype)) return fmt::format("on CUDA it takes bf16 and fp16, not {}", dtype_name(p.dtype));
  if (p.head_dim % 8 != 0 || p.head_dim > kMostDim) {
    return fmt::format("head dimension {} is not a multiple of 8 up to {}", p.head_dim, kMostDim);
  }
  if (std::string reason = sage2::launch_unsupported(); !reason.empty()) return reason;
  return capability_reason(settings.arch, p.device);
}

std::string cpu_reason(const Problem& p) {
  if (!is_half(p.dtype) && p.dtype != at::kFloat) {
    return fmt::format("it takes fp32, bf16 and fp16, not {}", dtype_name(p.dtype));
  }
  return p.head_dim <= kMostDim ? "" : fmt::format("head dimension {} is more than {}", p.head_dim, kMostDim);
}

Output emulate(const Call& call, const Settings& settings) {
  Call wide = call;
  for (at::Tensor* x : {&wide.q, &wide.k, &wide.v}) *x = x->to(at::kFloat);
  Output result = sage2::attend(sage2::quantize(wide, settings), wide, settings);
  result.out = call.out.defined() ? call.out.copy_(result.out) : result.out.to(call.q.scalar_type());
  return result;
}

// The kernels quantize what norm and RoPE give, with no rounding to the call's type between.
std::vector<Segment> in_fp32(const JointCall& call) {
  std::vector<Segment> wide(call.segments.begin(), call.segments.end());
  for (Segment& s : wide) {
    if (s.q.defined()) s.q = s.q.to(at::kFloat);
    s.k = s.k.to(at::kFloat), s.v = s.v.to(at::kFloat);
    if (s.out.defined() && s.out.scalar_type() != at::kFloat) {
      s.out = at::empty(s.out.sizes(), s.out.options().dtype(at::kFloat));
    }
  }
  return wide;
}

// The kernels take the largest of the integer scores before they scale it.
Call with_positive_scale(const Call& call) {
  Call positive = call;
  if (call.scale < 0) positive.q = call.q.neg(), positive.scale = -call.scale;
  return positive;
}

}  // namespace

const Settings& Sage2::settings(const at::Device& device) const {
  return by_native_[size_t(native_arch(device))];
}

std::string Sage2::unsupported(const Problem& p) const {
  if (p.device.is_cpu()) return cpu_reason(p);
  if (p.device.is_cuda()) return cuda_reason(settings(p.device), p);
  return fmt::format("it runs on CPU and CUDA, not {}", p.device.str());
}

Output Sage2::run(const Call& call, Recorder& recorder) const {
  check_call(call);
  const Problem p = problem_of(call);
  require_supported(*this, p);
  const Settings& chosen = settings(p.device);
  Output result =
      p.device.is_cpu() ? emulate(call, chosen) : sage2::launch(with_positive_scale(call), chosen);
  recorder.served(call.site, name_, call.fused);
  return result;
}

void Sage2::run_joint(const JointCall& call, Recorder& recorder) const {
  check_joint(call);
  const Problem p = problem_of(call);
  require_supported(*this, p);
  if (p.device.is_cpu()) {
    const std::vector<Segment> wide = in_fp32(call);
    Backend::run_joint({wide, call.scale, call.site}, recorder);
    for (size_t i = 0; i < wide.size(); ++i) {
      const at::Tensor& out = call.segments[i].out;
      if (out.defined() && !out.is_same(wide[i].out)) out.copy_(wide[i].out);
    }
    return;
  }
  if (call.scale < 0 || !sage2::launch_joint(call, settings(p.device))) {
    Backend::run_joint(call, recorder);
    return;
  }
  recorder.served(call.site, name_, true);
}

std::function<void()> Sage2::prepared(const Call& call) const {
  check_call(call);
  const Problem p = problem_of(call);
  require_supported(*this, p);
  if (!p.device.is_cuda()) return {};
  return sage2::prepare(with_positive_scale(call), settings(p.device));
}

BackendPtr make_sage2(Arguments& arguments) {
  Sage2::ByNative by_native;
  for (const Arch native : {Arch::Sm90, Arch::Sm89, Arch::Sm80}) {
    Arguments again = arguments;
    by_native[size_t(native)] = read_settings(again, native);
  }
  const bool named = arguments.option("arch").has_value();
  return std::make_shared<Sage2>(to_string(by_native[size_t(Arch::Sm90)], named), by_native);
}

}  // namespace sagelab::attention
