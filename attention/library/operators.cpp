// SPDX-License-Identifier: Apache-2.0
// torch.ops.sagelab: the backends of the registry for every program that has LibTorch, Python included.
//   torch.ops.load_library("libsagelab_attention.so")
//   torch.ops.sagelab.attention(q, k, v, scale, causal, spec)
#include <ATen/ATen.h>
#include <ATen/core/enum_tag.h>
#include <c10/core/DeviceGuard.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

#include <cmath>
#include <functional>
#include <map>
#include <mutex>
#include <string>

#include "attention/error.h"
#include "attention/recorder.h"
#include "attention/registry.h"

namespace sagelab::attention {
namespace {

// A backend serves any number of calls and threads, so each spec is made once.
BackendPtr backend_of(std::string_view spec) {
  static std::mutex mutex;
  static std::map<std::string, BackendPtr, std::less<>> made;
  const std::lock_guard lock(mutex);
  auto it = made.find(spec);
  if (it == made.end()) it = made.emplace(spec, make_backend(spec)).first;
  return it->second;
}

at::Tensor with_contiguous_heads(const at::Tensor& x) {
  return x.dim() == 4 && x.stride(3) != 1 ? x.contiguous() : x;
}

at::Tensor run(const Call& call, std::string_view spec) {
  const c10::DeviceGuard guard(call.q.device());
  Recorder recorder;
  const auto backend = backend_of(spec.empty() ? default_spec(call.q.device()) : spec);
  // As the meta function promises, whatever layout a backend likes.
  return backend->run(call, recorder).out.contiguous();
}

double default_scale(const at::Tensor& q) {
  return q.dim() == 4 && q.size(3) > 0 ? 1 / std::sqrt(double(q.size(3))) : 1;
}

at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     std::optional<double> scale, bool causal, std::string_view spec) {
  Call call;
  call.q = with_contiguous_heads(q);
  call.k = with_contiguous_heads(k);
  call.v = with_contiguous_heads(v);
  call.scale = scale.value_or(default_scale(q));
  call.causal = causal;
  check_call(call);
  try {
    return run(call, spec);
  } catch (const Error& e) {  // Python sees the message alone
    throw std::runtime_error(e.hint().empty() ? e.what() : fmt::format("{}; {}", e.what(), e.hint()));
  }
}

// For tracing: sizes may be symbols here.
at::Tensor attention_meta(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          std::optional<double>, bool, std::string_view) {
  TORCH_CHECK(q.dim() == 4 && k.dim() == 4 && v.dim() == 4, "attention: q, k, v must be [B, S, H, D], got ",
              q.sym_sizes(), ", ", k.sym_sizes(), ", ", v.sym_sizes());
  TORCH_CHECK(k.sym_sizes() == v.sym_sizes(), "attention: k ", k.sym_sizes(), " and v ", v.sym_sizes(),
              " differ");
  TORCH_CHECK(q.sym_size(0) == k.sym_size(0) && q.sym_size(3) == k.sym_size(3), "attention: q ",
              q.sym_sizes(), " does not fit k ", k.sym_sizes());
  TORCH_CHECK(q.scalar_type() == k.scalar_type() && q.scalar_type() == v.scalar_type(),
              "attention: dtypes differ: ", q.scalar_type(), ", ", k.scalar_type(), ", ", v.scalar_type());
  return at::empty_symint(q.sym_sizes(), q.options());
}

}  // namespace
}  // namespace sagelab::attention

TORCH_LIBRARY(sagelab, library) {
  library.def(
      "attention(Tensor q, Tensor k, Tensor v, float? scale=None, bool causal=False, str spec=\"\") -> "
      "Tensor",
      {at::Tag::pt2_compliant_tag});
}
TORCH_LIBRARY_IMPL(sagelab, CPU, library) {
  library.impl("attention", sagelab::attention::attention);
}
TORCH_LIBRARY_IMPL(sagelab, CUDA, library) {
  library.impl("attention", sagelab::attention::attention);
}
TORCH_LIBRARY_IMPL(sagelab, Meta, library) {
  library.impl("attention", sagelab::attention::attention_meta);
}
// There is no backward: asking for one is an error, not a gradient of zero.
TORCH_LIBRARY_IMPL(sagelab, Autograd, library) {
  library.impl("attention", torch::autograd::autogradNotImplementedFallback());
}
