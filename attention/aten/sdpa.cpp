// SPDX-License-Identifier: Apache-2.0
#include "attention/aten/sdpa.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <fmt/format.h>

#include <algorithm>
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

bool is_empty(const Problem& p) {
  return p.batch == 0 || p.heads == 0 || p.q_len == 0 || p.kv_len == 0;
}

// The fused kernels put a causal mask at the top left or were not tried at the bottom right.
std::string causal_reason(const Problem& p) {
  if (!p.causal || p.q_len == p.kv_len || is_empty(p)) return {};
  return fmt::format("a causal mask over {} queries and {} keys: this kernel takes equal lengths only",
                     p.q_len, p.kv_len);
}

std::string device_reason(const Problem& p) {
  return p.device.is_cpu() || compute_capability(p.device) != 0
             ? ""
             : fmt::format("there is no device {}", p.device.str());
}

std::string capability_reason(const Problem& p, int lowest) {
  const int capability = compute_capability(p.device);
  if (capability == 0) return device_reason(p);
  if (capability >= lowest && capability <= 121) return {};
  return fmt::format("compute capability {}.{} is outside {}.{} to 12.1", capability / 10, capability % 10,
                     lowest / 10, lowest % 10);
}

std::string multiple_reason(const Problem& p, int64_t multiple) {
  if (p.head_dim % multiple == 0) return {};
  return fmt::format("head dimension {} is not a multiple of {}", p.head_dim, multiple);
}

std::string most_reason(const Problem& p, int64_t most) {
  return p.head_dim <= most ? "" : fmt::format("head dimension {} is above {}", p.head_dim, most);
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

// The reasons on CUDA are those of LibTorch 2.11's sdp_utils.cpp: where it would take another kernel.
std::string flash_reason(const Problem& p) {
  if (!p.device.is_cuda()) return causal_reason(p);
  return first_of({half_reason(p), most_reason(p, 256), causal_reason(p), capability_reason(p, 80)});
}

long cudnn_version() {
  return at::globalContext().hasCuDNN() ? at::detail::getCUDAHooks().versionRuntimeCuDNN() : 0;
}

bool deterministic_only() {
  const at::Context& context = at::globalContext();
  return context.deterministicAlgorithms() && !context.deterministicAlgorithmsWarnOnly();
}

std::string cudnn_reason(const Problem& p) {
  if (!p.device.is_cuda()) return fmt::format("it needs a CUDA device, not {}", p.device.str());
  const bool large_heads = cudnn_version() >= 91000 && compute_capability(p.device) == 90;
  return first_of(
      {deterministic_only() ? "LibTorch is set to deterministic algorithms, and does not count it as one"
                            : "",
       cudnn_version() >= 90000 ? "" : "this LibTorch has no cuDNN 9", half_reason(p), multiple_reason(p, 8),
       most_reason(p, large_heads ? 256 : 128), causal_reason(p), capability_reason(p, 80)});
}

// Elements that a matrix product of the memory-efficient kernel loads at once.
int64_t efficient_alignment(const Problem& p) {
  const int capability = compute_capability(p.device);
  const bool modern = capability == 0 || capability >= 80;  // no device: its absence is the better reason
  if (is_half(p.dtype)) return modern || capability >= 70 ? 8 : 1;
  return modern ? 4 : 1;
}

std::string efficient_reason(const Problem& p) {
  if (!p.device.is_cuda()) return fmt::format("it needs a CUDA device, not {}", p.device.str());
  const bool known = is_half(p.dtype) || p.dtype == at::kFloat;
  const bool grouped = p.heads != p.kv_heads;
  return first_of(
      {known ? "" : fmt::format("it takes fp32, bf16 and fp16, not {}", dtype_name(p.dtype)),
       grouped ? fmt::format("it takes as many heads of k and v as of q, not {} for {}", p.kv_heads, p.heads)
               : "",
       multiple_reason(p, efficient_alignment(p)), causal_reason(p),
       capability_reason(p, p.dtype == at::kBFloat16 ? 80 : 50)});
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
      return device_reason(p);
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

Heads heads_of(const Call& call) {
  const auto heads = [](const at::Tensor& x) { return loadable(x).transpose(1, 2); };
  return {heads(call.q), heads(call.k), heads(call.v)};
}

// The kernel takes head dimensions that are multiples of 8: zeros change no score, and give columns of zeros.
Output run_flash_on_cuda(const Call& call) {
  const int64_t dim = call.q.size(3), extra = (8 - dim % 8) % 8;
  const auto padded = [&](const at::Tensor& x) {
    return extra == 0 ? x : at::constant_pad_nd(x, {0, extra});
  };
  Call wide = call;
  wide.q = padded(call.q), wide.k = padded(call.k), wide.v = padded(call.v);
  const Heads h = heads_of(wide);
  auto r = at::_scaled_dot_product_flash_attention(h.q, h.k, h.v, 0.0, call.causal, false, call.scale);
  return {std::get<0>(r).transpose(1, 2).narrow(3, 0, dim), std::get<1>(r)};
}

Output run_flash(const Call& call) {
  if (call.q.is_cuda()) return run_flash_on_cuda(call);
  const Heads h = heads_of(call);
  auto [out, lse] =
      at::_scaled_dot_product_flash_attention_for_cpu(h.q, h.k, h.v, 0.0, call.causal, {}, call.scale);
  return {out.transpose(1, 2), lse};
}

Output run_cudnn(const Call& call) {
  const Heads h = heads_of(call);
  auto r = at::_scaled_dot_product_cudnn_attention(h.q, h.k, h.v, {}, call.want_lse, 0.0, call.causal, false,
                                                   call.scale);
  const at::Tensor& lse = std::get<1>(r);
  return {std::get<0>(r).transpose(1, 2), call.want_lse && lse.dim() == 4 ? lse.squeeze(-1) : lse};
}

// The memory-efficient kernel multiplies a row and its stride in 32 bits.
at::Tensor within_reach(const at::Tensor& x) {
  return (x.size(1) - 1) * x.stride(1) > std::numeric_limits<int32_t>::max() ? x.contiguous() : x;
}

Output run_efficient(const Call& call) {
  Call near = call;
  near.q = within_reach(call.q), near.k = within_reach(call.k), near.v = within_reach(call.v);
  const Heads h = heads_of(near);
  auto r = at::_scaled_dot_product_efficient_attention(h.q, h.k, h.v, {}, call.want_lse, 0.0, call.causal,
                                                       call.scale);
  // The kernel pads its rows to a multiple of 32.
  const at::Tensor lse = call.want_lse ? std::get<1>(r).narrow(2, 0, call.q.size(1)) : at::Tensor();
  return {std::get<0>(r).transpose(1, 2), lse};
}

Output run_math(const Call& call) {
  const Heads h = heads_of(call);
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

// LibTorch's cuDNN does not take a single key. Its weight is 1, whatever the score and the kernel.
Output run_single_key(const Call& call) {
  const at::Tensor v = call.v.repeat_interleave(call.q.size(2) / call.v.size(2), 2);
  const at::Tensor out = at::empty_like(call.q, at::MemoryFormat::Contiguous);
  return {out.copy_(v.expand_as(out)), call.want_lse ? log_sum_exp(call) : at::Tensor()};
}

Output run_kernel(Kernel kernel, const Call& call) {
  const Problem p = problem_of(call);
  if (is_empty(p)) return run_empty(call);
  if (p.kv_len == 1 && causal_reason(p).empty()) return run_single_key(call);
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
  const int capability = compute_capability(problem.device);
  const bool cudnn_first =
      (capability == 90 || capability == 100 || capability == 103) && cudnn_version() > 91500;
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

int64_t flash_tile_bytes(const Problem& p) {
  const int64_t queries = p.q_len >= 768   ? 256
                          : p.q_len >= 192 ? 64
                                           : 32,
                keys = std::min<int64_t>(512, p.kv_len);
  const int64_t floats = (keys + 2 + p.head_dim) * int64_t(sizeof(float));
  return at::get_num_threads() * queries * (is_half(p.dtype) ? floats + 2 * keys : floats);
}

// Math: q and k, scaled and widened to fp32, and two matrices of scores with a mask.
int64_t Sdpa::run_bytes(const Problem& p) const {
  const int64_t result = Backend::run_bytes(p);
  const Kernel kernel = kernel_ == Kernel::Auto ? choose_sdpa(p) : kernel_;
  if (kernel == Kernel::Math) {
    const int64_t element = std::max<int64_t>(4, int64_t(c10::elementSize(p.dtype)));
    const int64_t rows = p.head_dim * (p.q_len + p.kv_len) * (is_half(p.dtype) ? 2 : 1);
    return result + p.batch * p.heads * (element * rows + (2 * element + 1) * p.q_len * p.kv_len);
  }
  return p.device.is_cpu() ? result + flash_tile_bytes(p) : result;
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
