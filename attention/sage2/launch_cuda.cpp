// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "attention/dtype.h"
#include "attention/fused/rows.h"
#include "attention/sage2/kernels.h"
#include "attention/sage2/launch.h"
#include "attention/sage2/quantized.h"

namespace sagelab::attention::sage2 {

namespace {

bool is_empty(const Problem& p) {
  return p.batch == 0 || p.heads == 0 || p.q_len == 0 || p.kv_len == 0;
}

template <class T>
T* data_of(const at::Tensor& x) {
  return x.defined() ? static_cast<T*>(x.data_ptr()) : nullptr;
}

Operands operands_of(const Quantized& x) {
  Operands o;
  o.q = data_of<void>(x.q), o.k = data_of<void>(x.k), o.v = data_of<void>(x.v);
  o.q_scale = data_of<float>(x.q_scale), o.k_scale = data_of<float>(x.k_scale);
  o.v_scale = data_of<float>(x.v_scale);
  o.k_mean = data_of<float>(x.k_mean), o.v_mean = data_of<float>(x.v_mean);
  o.q_mean = data_of<float>(x.q_mean), o.delta = data_of<float>(x.delta);
  o.q_shift = data_of<float>(x.q_shift);
  o.q_odd = data_of<uint8_t>(x.q_odd), o.kv_odd = data_of<uint8_t>(x.kv_odd);
  return o;
}

// One launch and the memory it works on. Its device is the current one wherever it is used.
class Launch {
 public:
  Launch(const Problem& p, double scale, const Settings& settings, bool want_lse)
      : x_(allocate(p, settings, want_lse)) {
    AttentionParams& shape = params_.shape;
    shape.q_len = p.q_len, shape.kv_len = p.kv_len;
    shape.batch = int(p.batch), shape.heads = int(p.heads), shape.kv_heads = int(p.kv_heads);
    shape.head_dim = int(p.head_dim), shape.scale = float(scale), shape.causal = p.causal;
    shape.scalar = *kernel_scalar(p.dtype);
    shape.settings = settings;
    params_.x = shape.x = operands_of(x_);
    const auto floats = at::TensorOptions().device(p.device).dtype(at::kFloat);
    partial_ = at::empty({partial_floats(shape)}, floats);
    params_.partial = partial_.data_ptr<float>();
    const int64_t kv_heads = p.batch * p.kv_heads;
    counters_ = at::empty({Counters::count(kv_heads)}, floats.dtype(at::kInt));
    shape.counters = {data_of<unsigned>(counters_), kv_heads};
    if (want_lse) lse_ = at::empty({p.batch, p.heads, p.q_len}, floats);
    shape.lse = data_of<float>(lse_);
  }

  void add_q(const at::Tensor& q, const Norm& norm, const Rope& rope, const at::Tensor& out) {
    const int64_t tokens = q.size(1);
    if (tokens == 0) return;
    params_.q[params_.q_runs++] = run_of(q, norm, rope, queries_);
    Destination& to = params_.shape.to[params_.shape.segments++];
    to.out = out.data_ptr();
    to.batch = out.stride(0), to.token = out.stride(1), to.head = out.stride(2);
    to.begin = queries_, to.end = queries_ += tokens;
  }

  void add_kv(const at::Tensor& k, const at::Tensor& v, const Norm& norm, const Rope& rope) {
    if (k.size(1) == 0) return;
    params_.k[params_.kv_runs] = run_of(k, norm, rope, keys_);
    params_.v[params_.kv_runs++] = run_of(v, {}, {}, keys_);
    keys_ += k.size(1);
  }

  void prologue() { C10_CUDA_CHECK(launch_prologue(params_, stream())); }
  void attention() const {
    C10_CUDA_CHECK(hopper() ? launch_wgmma(params_.shape, stream()) : launch_mma(params_.shape, stream()));
  }
  void all() {
    params_.shape.beside = hopper();
    prologue();
    attention();
    C10_CUDA_CHECK(launch_repair(params_, stream()));
  }
  const at::Tensor& lse() const { return lse_; }
  const Quantized& operands() const { return x_; }
  const AttentionParams& params() const { return params_.shape; }

 private:
  bool hopper() const { return params_.shape.settings.arch == Arch::Sm90; }
  static cudaStream_t stream() { return c10::cuda::getCurrentCUDAStream(); }

  Run run_of(const at::Tensor& x, const Norm& norm, const Rope& rope, int64_t begin) {
    kept_.push_back(rows_aligned(x) ? x : x.clone(at::MemoryFormat::Contiguous));
    const at::Device& device = x.device();
    return {rows_of(kept_.back(), norm, !rope.empty(), floats_), rotation_of(rope, device, floats_), begin};
  }

  Quantized x_;
  at::Tensor partial_, counters_, lse_;
  std::vector<at::Tensor> kept_;
  Floats floats_;
  PrologueParams params_;
  int64_t queries_ = 0, keys_ = 0;
};

// A destination that the kernels can write to: the caller's, or one of our own.
at::Tensor writable(const Call& call) {
  const bool given = call.out.defined() && rows_aligned(call.out);
  return given ? call.out : at::empty(call.q.sizes(), call.q.options());
}

void fill(Launch& launch, const Call& call, const at::Tensor& out) {
  launch.add_q(call.q, {}, {}, out);
  launch.add_kv(call.k, call.v, {}, {});
}

void fill(Launch& launch, const JointCall& call) {
  for (const Segment& s : call.segments) {
    if (s.q.defined()) launch.add_q(s.q, s.q_norm, s.rope, s.out);
    launch.add_kv(s.k, s.v, s.k_norm, s.rope);
  }
}

Output run_empty(const Call& call, const at::Tensor& out) {
  Output result{out.zero_(), {}};
  if (call.want_lse) {
    result.lse = at::full({call.q.size(0), call.q.size(2), call.q.size(1)},
                          -std::numeric_limits<float>::infinity(), call.q.options().dtype(at::kFloat));
  }
  return result;
}

}  // namespace

std::string launch_unsupported() {
  return {};
}

Output launch(const Call& call, const Settings& settings) {
  const Problem p = problem_of(call);
  const c10::cuda::CUDAGuard guard(p.device);
  const at::Tensor out = writable(call);
  Output result;
  if (is_empty(p)) {
    result = run_empty(call, out);
  } else {
    Launch launch(p, call.scale, settings, call.want_lse);
    fill(launch, call, out);
    launch.all();
    result = {out, launch.lse()};
  }
  if (call.out.defined() && !call.out.is_same(out)) result.out = call.out.copy_(out);
  return result;
}

bool launch_joint(const JointCall& call, const Settings& settings) {
  const Problem p = problem_of(call);
  if (call.segments.size() > kMaxSegments) return false;
  for (const Segment& s : call.segments) {
    if (s.out.defined() && !rows_aligned(s.out)) return false;
  }
  if (is_empty(p)) {
    for (const Segment& s : call.segments) {
      if (s.out.defined()) s.out.zero_();
    }
    return true;
  }
  const c10::cuda::CUDAGuard guard(p.device);
  Launch launch(p, call.scale, settings, false);
  fill(launch, call);
  launch.all();
  return true;
}

std::function<void()> prepare(const Call& call, const Settings& settings, Attend attend) {
  const Problem p = problem_of(call);
  if (is_empty(p)) return {};
  const c10::cuda::CUDAGuard guard(p.device);
  const at::Tensor out = writable(call);
  const auto launch = std::make_shared<Launch>(p, call.scale, settings, call.want_lse);
  fill(*launch, call, out);
  launch->prologue();
  // Its memory and its counter belong to this stream.
  return [launch, out, attend = std::move(attend), stream = c10::cuda::getCurrentCUDAStream()] {
    const c10::cuda::CUDAStreamGuard guard(stream);
    if (attend)
      attend(launch->params());
    else
      launch->attention();
  };
}

Quantized quantize_on_cuda(const Call& call, const Settings& settings) {
  const Problem p = problem_of(call);
  TORCH_CHECK(!is_empty(p), "sage2: nothing to quantize in ", call.q.sizes(), " and ", call.k.sizes());
  const c10::cuda::CUDAGuard guard(p.device);
  Launch launch(p, call.scale, settings, call.want_lse);
  fill(launch, call, writable(call));
  launch.prologue();
  return launch.operands();
}

Quantized quantize_on_cuda(const JointCall& call, const Settings& settings) {
  const Problem p = problem_of(call);
  TORCH_CHECK(!is_empty(p) && call.segments.size() <= kMaxSegments, "sage2: nothing to quantize in ",
              call.segments.size(), " segments, at most ", kMaxSegments, ", of ", p.kv_len, " tokens");
  const c10::cuda::CUDAGuard guard(p.device);
  Launch launch(p, call.scale, settings, false);
  fill(launch, call);
  launch.prologue();
  return launch.operands();
}

}  // namespace sagelab::attention::sage2
