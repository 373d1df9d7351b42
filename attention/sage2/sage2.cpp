// SPDX-License-Identifier: Apache-2.0
#include "attention/sage2/sage2.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
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
  constexpr int64_t kMostBlocks = 65535;  // of a grid's second and third dimension
  if (p.batch > kMostBlocks || p.heads > kMostBlocks)
    return fmt::format("batch {} or {} heads are more than {}", p.batch, p.heads, kMostBlocks);
  constexpr int64_t kMostKeys = kMostBlocks * 256;  // of the blocks that look for means and maxima
  if (p.kv_len > kMostKeys) return fmt::format("{} keys are more than {}", p.kv_len, kMostKeys);
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

int64_t bytes_of(std::initializer_list<at::Tensor> tensors) {
  int64_t bytes = 0;
  for (const at::Tensor& x : tensors) bytes += x.defined() ? int64_t(x.nbytes()) : 0;
  return bytes;
}

// Counted on tensors without memory.
sage2::Quantized operands(Problem p, const Settings& settings) {
  p.device = at::kMeta;
  return sage2::allocate(p, settings, false);
}
// The prologue's scratch, below a fortieth of them, aside.
int64_t operand_bytes(const sage2::Quantized& x) {
  return bytes_of({x.q, x.k, x.v, x.q_scale, x.k_scale, x.v_scale, x.k_mean, x.v_mean, x.q_mean, x.delta,
                   x.q_shift, x.q_odd, x.kv_odd});
}

// Of quantize(), beside the operands: smoothed K and a second delta, or the largest values of V. Of attend():
// the operands as fp32 in whole tiles, and the result.
int64_t emulation_bytes(const Problem& p, const Settings& settings) {
  const sage2::Quantized x = operands(p, settings);
  const int64_t wide = p.batch * int64_t(sizeof(float)), padded = wide * x.v.size(3),
                q_rows = p.heads * x.q.size(2) * x.q.size(3), k_rows = p.kv_heads * x.k.size(2) * x.k.size(3);
  const int64_t quantizing =
      settings.smooth_q ? padded * k_rows + bytes_of({x.delta}) : padded * p.kv_heads * x.k.size(2);
  const int64_t attending = wide * p.head_dim * (q_rows + 2 * k_rows + p.q_len * p.heads);
  return operand_bytes(x) + std::max(quantizing, attending);
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

int64_t Sage2::run_bytes(const Problem& p) const {
  const Settings& chosen = settings(p.device);
  const int64_t q = p.batch * p.q_len * p.heads * p.head_dim,
                k = p.batch * p.kv_len * p.kv_heads * p.head_dim,
                out = q * int64_t(c10::elementSize(p.dtype));
  if (!p.device.is_cpu()) return operand_bytes(operands(p, chosen)) + out;
  const int64_t emulated = emulation_bytes(p, chosen);
  return p.dtype == at::kFloat ? emulated : emulated + (q + 2 * k) * int64_t(sizeof(float)) + out;
}

int64_t Sage2::joint_bytes(const Problem& p, bool rotated) const {
  if (!p.device.is_cpu()) return operand_bytes(operands(p, settings(p.device)));
  if (p.dtype == at::kFloat) return Backend::joint_bytes(p, rotated);
  Problem wide = p;  // of q, k and v; and a result that is copied
  wide.dtype = at::kFloat;
  const int64_t rows = 2 * (p.q_len * p.heads + p.kv_len * p.kv_heads);
  return Backend::joint_bytes(wide, rotated) + p.batch * rows * p.head_dim * int64_t(sizeof(float));
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
