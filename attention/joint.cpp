// SPDX-License-Identifier: Apache-2.0
#include "attention/joint.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <vector>

#ifdef SAGELAB_CUDA
#include "attention/fused/fused.h"
#endif

namespace sagelab::attention {

namespace {

void check_norm(const Norm& norm, const char* name, size_t index, int64_t dim) {
  if (norm.kind == Norm::Kind::None) return;
  for (const at::Tensor& t : {norm.weight, norm.bias}) {
    TORCH_CHECK(!t.defined() || (t.dim() == 1 && t.size(0) == dim), "attention: segment ", index, ": ", name,
                " parameter ", t.sizes(), " does not fit head dimension ", dim);
  }
}

void check_rope(const Segment& s, size_t index) {
  const Rope& r = s.rope;
  TORCH_CHECK(r.cos.defined() == r.sin.defined() && r.positions.defined() == r.frequencies.defined(),
              "attention: segment ", index, ": RoPE wants cos with sin, and positions with frequencies");
  if (r.empty()) return;
  const int64_t rows = s.k.size(1), half = s.k.size(3) / 2;
  TORCH_CHECK(s.k.size(3) % 2 == 0, "attention: segment ", index, ": RoPE needs an even head dimension, got ",
              s.k.size(3));
  TORCH_CHECK(!(r.cos.defined() && r.positions.defined()), "attention: segment ", index,
              ": RoPE tables and positions exclude each other");
  if (r.cos.defined()) {
    const auto fits = [&](const at::Tensor& t) {
      return t.scalar_type() == at::kFloat && t.sizes() == at::IntArrayRef({rows, half});
    };
    TORCH_CHECK(fits(r.cos) && fits(r.sin), "attention: segment ", index, ": RoPE tables must be fp32 [",
                rows, ", ", half, "], got ", r.cos.sizes(), " and ", r.sin.sizes());
    return;
  }
  TORCH_CHECK(r.positions.sizes() == at::IntArrayRef({rows, 3}) && r.positions.scalar_type() == at::kFloat &&
                  r.frequencies.scalar_type() == at::kFloat &&
                  r.frequencies.sizes() == at::IntArrayRef({3, s.k.size(2), half}),
              "attention: segment ", index, ": RoPE positions must be fp32 [", rows,
              ", 3] with frequencies [3, ", s.k.size(2), ", ", half, "], got ", r.positions.sizes(), " and ",
              r.frequencies.sizes());
  TORCH_CHECK(!s.q.defined() || s.q.size(2) == s.k.size(2), "attention: segment ", index,
              ": RoPE frequencies per head need as many heads in q ", s.q.sizes(), " as in k ", s.k.sizes());
}

void check_segment(const Segment& s, size_t index, const Segment& first) {
  TORCH_CHECK(s.k.defined() && s.v.defined(), "attention: segment ", index, ": k and v must be defined");
  TORCH_CHECK(s.k.dim() == 4 && s.k.sizes() == s.v.sizes(), "attention: segment ", index,
              ": k and v must be [B, S, H, D] of one size, got ", s.k.sizes(), " and ", s.v.sizes());
  TORCH_CHECK(
      s.k.size(0) == first.k.size(0) && s.k.size(2) == first.k.size(2) && s.k.size(3) == first.k.size(3),
      "attention: segment ", index, ": k ", s.k.sizes(), " does not fit segment 0's ", first.k.sizes());
  TORCH_CHECK(s.q.defined() == s.out.defined(), "attention: segment ", index, ": q and out go together");
  for (const at::Tensor* t : std::array{&s.q, &s.k, &s.v, &s.out}) {
    if (!t->defined()) continue;
    TORCH_CHECK(t->scalar_type() == first.k.scalar_type() && t->device() == first.k.device(),
                "attention: segment ", index, ": ", t->scalar_type(), " on ", t->device(), " among ",
                first.k.scalar_type(), " on ", first.k.device());
    TORCH_CHECK(t->dim() == 4 && t->stride(3) == 1, "attention: segment ", index,
                ": tensors must be [B, S, H, D] with D contiguous, got ", t->sizes(), " strides ",
                t->strides());
  }
  if (s.q.defined()) {
    TORCH_CHECK(s.q.size(0) == s.k.size(0) && s.q.size(1) == s.k.size(1) && s.q.size(3) == s.k.size(3) &&
                    s.k.size(2) > 0 && s.q.size(2) % s.k.size(2) == 0,
                "attention: segment ", index, ": q ", s.q.sizes(), " does not fit k ", s.k.sizes());
    TORCH_CHECK(s.out.sizes() == s.q.sizes(), "attention: segment ", index, ": out ", s.out.sizes(),
                " does not fit q ", s.q.sizes());
  }
  check_norm(s.q_norm, "q_norm", index, s.k.size(3));
  check_norm(s.k_norm, "k_norm", index, s.k.size(3));
  check_rope(s, index);
}

// In fp32. Reductions in ATen want the last dimension alone; x [B, S, H, D] fp32 of any strides.
at::Tensor normed(const at::Tensor& x, const Norm& norm) {
  const auto scaled = [&](at::Tensor y) {
    if (norm.weight.defined()) y = y * norm.weight.to(at::kFloat);
    if (norm.bias.defined()) y = y + norm.bias.to(at::kFloat);
    return y;
  };
  switch (norm.kind) {
    case Norm::Kind::None:
      return x;
    case Norm::Kind::Rms:
      return scaled(x * at::rsqrt(x.square().mean(-1, true) + norm.eps));
    case Norm::Kind::Layer: {
      const auto parameter = [](const at::Tensor& t) { return t.defined() ? t.to(at::kFloat) : t; };
      return at::layer_norm(x, {x.size(3)}, parameter(norm.weight), parameter(norm.bias), norm.eps);
    }
  }
  TORCH_CHECK(false, "no such norm: ", static_cast<int>(norm.kind));
}

// cos + i sin [S, 1 or H, D/2] complex; undefined without RoPE.
at::Tensor rotation_of(const Rope& rope) {
  if (rope.cos.defined()) return at::complex(rope.cos, rope.sin).unsqueeze(1);
  if (!rope.positions.defined()) return {};
  at::Tensor angle;  // summed by hand: a matrix product could be rounded to TF32
  for (int64_t axis = 0; axis < 3; ++axis) {
    const at::Tensor term =
        rope.positions.select(1, axis).view({-1, 1, 1}) * rope.frequencies.select(0, axis);
    angle = axis == 0 ? term : angle + term;
  }
  return at::complex(angle.cos(), angle.sin());
}

// A pair is a complex number: one pass instead of one for each of four products and two sums.
at::Tensor rotated(const at::Tensor& x, const at::Tensor& rotation) {
  const at::Tensor pairs = at::view_as_complex(x.contiguous().unflatten(3, {x.size(3) / 2, 2}));
  return at::view_as_real(pairs * rotation).flatten(3);
}

// A stride of one element leads nowhere: views of views of one batch have any there.
bool step_alike(const at::Tensor& a, const at::Tensor& b) {
  for (int64_t dim = 0; dim < a.dim(); ++dim) {
    const bool leads_nowhere = dim != 1 && a.size(dim) == 1;
    if (!leads_nowhere && a.stride(dim) != b.stride(dim)) return false;
  }
  return true;
}

// [B, total, H, D] over tensors that lie one after the other in the rows of one tensor; undefined if they do
// not.
at::Tensor as_one_view(std::vector<at::Tensor> parts) {
  while (parts.size() > 1 && parts.back().size(1) == 0) parts.pop_back();
  while (parts.size() > 1 && parts.front().size(1) == 0) parts.erase(parts.begin());
  if (parts.size() == 1) return parts.front();
  const at::Tensor& first = parts.front();
  int64_t total = first.size(1);
  for (size_t i = 1; i < parts.size(); ++i) {
    const at::Tensor& t = parts[i];
    if (!t.is_alias_of(first) || !step_alike(t, first) ||
        t.storage_offset() != first.storage_offset() + total * first.stride(1)) {
      return {};
    }
    total += t.size(1);
  }
  return first.as_strided({first.size(0), total, first.size(2), first.size(3)}, first.strides(),
                          first.storage_offset());
}

at::Tensor concatenated(const std::vector<at::Tensor>& parts) {
  at::Tensor view = as_one_view(parts);
  return view.defined() ? view : at::cat(parts, 1);
}

bool needs_work(const Norm& norm, const Rope& rope) {
  return norm.kind != Norm::Kind::None || !rope.empty();
}

at::Tensor prepared(const at::Tensor& x, const Norm& norm, const at::Tensor& rotation) {
  if (norm.kind == Norm::Kind::None && !rotation.defined()) return x;
  const at::Tensor y = normed(x.to(at::kFloat), norm);
  return (rotation.defined() ? rotated(y, rotation) : y).to(x.scalar_type());
}

struct Parts {
  std::vector<at::Tensor> q, k, v;
  bool work = false;
};

Parts parts_of(const JointCall& call) {
  Parts parts;
  for (const Segment& s : call.segments) {
    if (s.q.defined()) {
      parts.q.push_back(s.q);
      parts.work = parts.work || needs_work(s.q_norm, s.rope);
    }
    parts.k.push_back(s.k);
    parts.v.push_back(s.v);
    parts.work = parts.work || needs_work(s.k_norm, s.rope);
  }
  return parts;
}

// The call without any kernel, if nothing has to be computed or moved.
Gathered views_of(const JointCall& call) {
  const Parts parts = parts_of(call);
  if (parts.work) return {};
  Gathered g{as_one_view(parts.q), as_one_view(parts.k), as_one_view(parts.v)};
  return g.q.defined() && g.k.defined() && g.v.defined() ? g : Gathered{};
}

}  // namespace

Problem problem_of(const JointCall& call) {
  Problem p;
  const Segment& first = call.segments.front();
  p.batch = first.k.size(0);
  p.heads = p.kv_heads = first.k.size(2);
  p.head_dim = first.k.size(3);
  p.dtype = first.k.scalar_type();
  p.device = first.k.device();
  for (const Segment& s : call.segments) {
    p.kv_len += s.k.size(1);
    if (!s.q.defined()) continue;
    p.q_len += s.q.size(1);
    p.heads = s.q.size(2);
  }
  return p;
}

void check_joint(const JointCall& call) {
  TORCH_CHECK(!call.segments.empty(), "attention: a joint call needs a segment");
  int64_t heads = -1;
  for (size_t i = 0; i < call.segments.size(); ++i) {
    const Segment& s = call.segments[i];
    check_segment(s, i, call.segments.front());
    if (!s.q.defined()) continue;
    TORCH_CHECK(heads < 0 || heads == s.q.size(2), "attention: segment ", i, ": q ", s.q.sizes(),
                " has other heads than the ", heads, " of the segments before");
    heads = s.q.size(2);
  }
  TORCH_CHECK(heads >= 0, "attention: no segment of the joint call has queries");
}

Gathered gather_reference(const JointCall& call) {
  check_joint(call);
  if (Gathered g = views_of(call); g.q.defined()) return g;
  Parts parts;
  for (const Segment& s : call.segments) {
    const at::Tensor rotation = rotation_of(s.rope);
    if (s.q.defined()) parts.q.push_back(prepared(s.q, s.q_norm, rotation));
    parts.k.push_back(prepared(s.k, s.k_norm, rotation));
    parts.v.push_back(s.v);
  }
  return {concatenated(parts.q), concatenated(parts.k), concatenated(parts.v)};
}

Gathered gather(const JointCall& call) {
#ifdef SAGELAB_CUDA
  check_joint(call);
  if (fused_gather_unsupported(call).empty()) {
    Gathered views = views_of(call);
    if (!views.q.defined()) return fused_gather(call);
    views.fused = true;  // nothing runs at all
    return views;
  }
#endif
  return gather_reference(call);
}

at::Tensor destination(const JointCall& call) {
  std::vector<at::Tensor> outs;
  for (const Segment& s : call.segments) {
    if (s.out.defined()) outs.push_back(s.out);
  }
  return as_one_view(outs);
}

void scatter(const at::Tensor& out, const JointCall& call) {
  int64_t row = 0;
  for (const Segment& s : call.segments) {
    if (!s.out.defined()) continue;
    const at::Tensor rows = out.narrow(1, row, s.out.size(1));
    row += s.out.size(1);
    if (rows.is_alias_of(s.out) && rows.storage_offset() == s.out.storage_offset()) continue;
    s.out.copy_(rows);
  }
  TORCH_CHECK(row == out.size(1), "attention: ", out.size(1), " rows of output for ", row, " queries");
}

// Note [Bytes of a gather]
// In tensors of the size of q or k. In one pass on CUDA, nothing but the results. Elsewhere, in fp32: laid
// out in rows, then normed and turned: two at a time, those of k beside q. In half precision they are widened
// first, twice as large each, and rounded at last.
GatherBytes gather_bytes(const Problem& p, bool rotated) {
  const int64_t element = int64_t(c10::elementSize(p.dtype)), row = p.batch * p.head_dim * element,
                q = row * p.q_len * p.heads, k = row * p.kv_len * p.kv_heads;
  if (!p.device.is_cpu()) return {q + k, q + k};
  const int64_t wide = element < 4 ? 4 / element : 1, most = 2 * wide + (wide > 1 && rotated);
  return {std::max(most * q, q + most * k), q + k};
}

int64_t Backend::run_bytes(const Problem& p) const {
  const int64_t rows = p.batch * p.q_len * p.heads;
  return rows * p.head_dim * int64_t(c10::elementSize(p.dtype)) + rows * int64_t(sizeof(float));
}

int64_t Backend::joint_bytes(const Problem& p, bool rotated) const {
  const GatherBytes gathered = gather_bytes(p, rotated);
  return std::max(gathered.peak, gathered.kept + run_bytes(p));
}

void Backend::run_joint(const JointCall& call, Recorder& recorder) const {
  Gathered g = gather(call);
  const at::Tensor out = destination(call);
  Call prepared{std::move(g.q), std::move(g.k), std::move(g.v), call.scale, false,
                false,          call.site,      g.fused,        out};
  scatter(run(prepared, recorder).out, call);
}

}  // namespace sagelab::attention
