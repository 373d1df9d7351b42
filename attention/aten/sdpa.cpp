// SPDX-License-Identifier: Apache-2.0
#include "attention/aten/sdpa.h"

#include <ATen/ATen.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <fmt/format.h>

#include <array>
#include <limits>

#include "attention/aten/reference.h"
#include "attention/dtype.h"
#include "attention/recorder.h"
#include "attention/registry.h"
#include "attention/spec.h"

namespace sagelab::attention {

namespace {

using Kernel = Sdpa::Kernel;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Named {
  Kernel kernel;
  std::string_view word;
};
constexpr std::array<Named, 5> kNames{{{Kernel::Auto, "auto"},
                                       {Kernel::Flash, "flash"},
                                       {Kernel::Cudnn, "cudnn"},
                                       {Kernel::Efficient, "efficient"},
                                       {Kernel::Math, "math"}}};

std::string name_of(Kernel kernel) {
  for (const Named& n : kNames) {
    if (n.kernel == kernel) return kernel == Kernel::Auto ? "sdpa" : fmt::format("sdpa({})", n.word);
  }
  TORCH_CHECK(false, "no such kernel: ", static_cast<int>(kernel));
}

bool is_half(at::ScalarType dtype) {
  return dtype == at::kHalf || dtype == at::kBFloat16;
}
bool is_empty(const Problem& p) {
  return p.batch == 0 || p.heads == 0 || p.q_len == 0 || p.kv_len == 0;
}

// The fused kernels put a causal mask at the top left or were not tried at the bottom right.
std::string causal_reason(const Problem& p) {
  if (!p.causal || p.q_len == p.kv_len || is_empty(p)) return {};
  return fmt::format("a causal mask over {} queries and {} keys: this kernel takes equal lengths only",
                     p.q_len, p.kv_len);
}

std::string capability_reason(const Problem& p, int lowest) {
  const int capability = compute_capability(p.device);
  if (capability == 0) return fmt::format("there is no device {}", p.device.str());
  if (capability >= lowest && capability <= 121) return {};
  return fmt::format("compute capability {}.{} is outside {}.{} to 12.1", capability / 10, capability % 10,
                     lowest / 10, lowest % 10);
}

std::string head_dim_reason(const Problem& p, int64_t multiple, int64_t most) {
  if (p.head_dim % multiple == 0 && p.head_dim <= most) return {};
  const std::string wanted =
      most == std::numeric_limits<int64_t>::max() ? "" : fmt::format(" up to {}", most);
  return fmt::format("head dimension {} is not a multiple of {}{}", p.head_dim, multiple, wanted);
}

std::string first_of(std::initializer_list<std::string> reasons) {
  for (const std::string& r : reasons) {
    if (!r.empty()) return r;
  }
  return {};
}

std::string half_reason(const Problem& p) {
  return is_half(p.dtype) ? "" : fmt::format("on CUDA it takes bf16 and fp16, not {}", dtype_name(p.dtype));
}

std::string flash_reason(const Problem& p) {
  if (!p.device.is_cuda()) return causal_reason(p);
  return first_of({half_reason(p), head_dim_reason(p, 8, 256), causal_reason(p), capability_reason(p, 80)});
}

std::string cudnn_reason(const Problem& p) {
  if (!p.device.is_cuda()) return fmt::format("it needs a CUDA device, not {}", p.device.str());
  const bool present =
      at::globalContext().hasCuDNN() && at::detail::getCUDAHooks().versionRuntimeCuDNN() >= 90000;
  // Refused by scaled_dot_product_attention too.
  const bool one_key = p.kv_len == 1 && !is_empty(p);
  return first_of({present ? "" : "this LibTorch has no cuDNN 9", half_reason(p), head_dim_reason(p, 8, 128),
                   causal_reason(p), one_key ? "it does not take a single key" : "",
                   capability_reason(p, 80)});
}

std::string efficient_reason(const Problem& p) {
  if (!p.device.is_cuda()) return fmt::format("it needs a CUDA device, not {}", p.device.str());
  const bool known = is_half(p.dtype) || p.dtype == at::kFloat;
  return first_of({known ? "" : fmt::format("it takes fp32, bf16 and fp16, not {}", dtype_name(p.dtype)),
                   head_dim_reason(p, is_half(p.dtype) ? 8 : 4, std::numeric_limits<int64_t>::max()),
                   causal_reason(p), capability_reason(p, p.dtype == at::kBFloat16 ? 80 : 50)});
}

std::string reason_of(Kernel kernel, const Problem& p) {
  if (!p.device.is_cpu() && !p.device.is_cuda())
    return fmt::format("it runs on CPU and CUDA, not {}", p.device.str());
  if (!is_half(p.dtype) && p.dtype != at::kFloat && p.dtype != at::kDouble) {
    return fmt::format("it takes fp32, fp64, bf16 and fp16, not {}", dtype_name(p.dtype));
  }
  switch (kernel) {
    case Kernel::Flash:
      return flash_reason(p);
    case Kernel::Cudnn:
      return cudnn_reason(p);
    case Kernel::Efficient:
      return efficient_reason(p);
    case Kernel::Auto:  // math takes whatever is left
    case Kernel::Math:
      return p.device.is_cuda() ? capability_reason(p, 50) : "";
  }
  TORCH_CHECK(false, "no such kernel: ", static_cast<int>(kernel));
}

// What an operation gets and gives: [B, H, S, D] views, and the output as such.
struct Heads {
  at::Tensor q, k, v;
};

// The CUDA kernels read 16 bytes at a time and do not look whether they may; cuDNN knows no stride of zero.
at::Tensor loadable(const at::Tensor& x) {
  if (!x.is_cuda()) return x;
  const int64_t bytes = x.element_size();
  bool fits = reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0;
  for (int64_t d = 0; d < 3; ++d) {
    fits = fits && (x.size(d) == 1 || (x.stride(d) != 0 && x.stride(d) * bytes % 16 == 0));
  }
  return fits ? x : x.contiguous();
}

Heads heads_of(const Call& call, bool repeat_kv) {
  const int64_t group = call.q.size(2) / call.k.size(2);
  const auto kv = [&](const at::Tensor& x) {
    return loadable(repeat_kv && group > 1 ? x.repeat_interleave(group, 2) : x).transpose(1, 2);
  };
  return {loadable(call.q).transpose(1, 2), kv(call.k), kv(call.v)};
}

Output run_flash(const Call& call) {
  if (call.q.is_cuda()) {
    const Heads h = heads_of(call, false);
    auto r = at::_scaled_dot_product_flash_attention(h.q, h.k, h.v, 0.0, call.causal, false, call.scale);
    return {std::get<0>(r).transpose(1, 2), std::get<1>(r)};
  }
  const Heads h = heads_of(call, true);
  auto [out, lse] =
      at::_scaled_dot_product_flash_attention_for_cpu(h.q, h.k, h.v, 0.0, call.causal, {}, call.scale);
  return {out.transpose(1, 2), lse};
}

Output run_cudnn(const Call& call) {
  const Heads h = heads_of(call, false);
  auto r = at::_scaled_dot_product_cudnn_attention(h.q, h.k, h.v, {}, call.want_lse, 0.0, call.causal, false,
                                                   call.scale);
  const at::Tensor& lse = std::get<1>(r);
  return {std::get<0>(r).transpose(1, 2), call.want_lse && lse.dim() == 4 ? lse.squeeze(-1) : lse};
}

Output run_efficient(const Call& call) {
  const Heads h = heads_of(call, true);
  auto r = at::_scaled_dot_product_efficient_attention(h.q, h.k, h.v, {}, call.want_lse, 0.0, call.causal,
                                                       call.scale);
  // The kernel pads its rows to a multiple of 32.
  const at::Tensor lse = call.want_lse ? std::get<1>(r).narrow(2, 0, call.q.size(1)) : at::Tensor();
  return {std::get<0>(r).transpose(1, 2), lse};
}

Output run_math(const Call& call) {
  const Heads h = heads_of(call, false);
  const int64_t q_len = call.q.size(1), kv_len = call.k.size(1);
  std::optional<at::Tensor> mask;
  if (call.causal) {
    // The operation's own causal mask starts at the top left, and it adds what it gets, so no mask of
    // booleans.
    const at::Tensor never = at::full({q_len, kv_len}, -kInfinity, call.q.options());
    mask = never.triu(kv_len - q_len + 1);
  }
  const bool grouped = call.q.size(2) != call.k.size(2);
  auto r = at::_scaled_dot_product_attention_math(h.q, h.k, h.v, mask, 0.0, false, {}, call.scale, grouped);
  return {std::get<0>(r).transpose(1, 2), call.want_lse ? log_sum_exp(call) : at::Tensor()};
}

Output run_empty(const Call& call) {
  return {at::zeros(call.q.sizes(), call.q.options()),
          at::full({call.q.size(0), call.q.size(2), call.q.size(1)}, -kInfinity,
                   call.q.options().dtype(at::kFloat))};
}

Output run_kernel(Kernel kernel, const Call& call) {
  if (is_empty(problem_of(call))) return run_empty(call);
  switch (kernel) {
    case Kernel::Flash:
      return run_flash(call);
    case Kernel::Cudnn:
      return run_cudnn(call);
    case Kernel::Efficient:
      return run_efficient(call);
    case Kernel::Math:
      return run_math(call);
    case Kernel::Auto:
      break;
  }
  TORCH_CHECK(false, "no such kernel: ", static_cast<int>(kernel));
}

}  // namespace

Kernel choose_sdpa(const Problem& problem) {
  const int generation = compute_capability(problem.device) / 10;
  const bool cudnn_first = generation == 9 || generation == 10;
  for (const Kernel k : {Kernel::Cudnn, Kernel::Flash, Kernel::Efficient, Kernel::Math}) {
    if (k == Kernel::Cudnn && !cudnn_first) continue;
    if (reason_of(k, problem).empty()) return k;
  }
  return Kernel::Auto;
}

std::string Sdpa::name() const {
  return name_of(kernel_);
}

std::string Sdpa::unsupported(const Problem& problem) const {
  return reason_of(kernel_, problem);
}

Output Sdpa::run(const Call& call, Recorder& recorder) const {
  check_call(call);
  const Problem problem = problem_of(call);
  require_supported(*this, problem);
  const Kernel kernel = kernel_ == Kernel::Auto ? choose_sdpa(problem) : kernel_;
  Output result = run_kernel(kernel, call);
  if (!call.want_lse) result.lse.reset();
  recorder.served(call.site, name_of(kernel), call.fused);
  return result;
}

BackendPtr make_sdpa(Arguments& arguments) {
  const Spec* word = arguments.positional();
  arguments.require_all_taken("one of auto, flash, cudnn, efficient, math");
  if (word == nullptr) return std::make_shared<Sdpa>(Kernel::Auto);
  for (const Named& n : kNames) {
    if (to_string(*word) == n.word) return std::make_shared<Sdpa>(n.kernel);
  }
  arguments.fail(fmt::format("sdpa has no kernel '{}'", to_string(*word)), word->position,
                 "it has auto, flash, cudnn, efficient, math");
}

}  // namespace sagelab::attention
