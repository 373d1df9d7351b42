// SPDX-License-Identifier: Apache-2.0
// What the tests of sage2 share: calls to try, and how far results are apart.
#pragma once

#include <cmath>
#include <limits>

#include "attention/sage2/quantized.h"
#include "attention/sage2/settings.h"
#include "attention/sage2/twin.h"
#include "attention/spec.h"
#include "tests/attention/exact.h"

namespace sagelab::attention::sage2::test {

using attention::test::normal;
using attention::test::relative_error;

inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Shape {
  int64_t q_len, kv_len, head_dim = 64, heads = 2, kv_heads = 2, batch = 1;
  bool causal = false;
};

// N(0, 1) in fp32 with values that bf16 has.
inline Call call_of(const Shape& s, uint64_t seed = 1) {
  const auto make = [&](int64_t length, int64_t heads, uint64_t stream) {
    return normal({s.batch, length, heads, s.head_dim}, seed * 3 + stream, at::kBFloat16, at::kCPU)
        .to(at::kFloat);
  };
  Call call;
  call.q = make(s.q_len, s.heads, 0), call.k = make(s.kv_len, s.kv_heads, 1),
  call.v = make(s.kv_len, s.kv_heads, 2);
  call.scale = 1 / std::sqrt(double(s.head_dim));
  call.causal = s.causal;
  return call;
}

inline Settings settings_of(std::string_view text, Arch native = Arch::Sm90) {
  const Spec spec = parse_spec(text);
  Arguments arguments(spec, text);
  return read_settings(arguments, native);
}

// Attention by the CPU's twin of the kernels.
inline Output twin_of(const Call& call, const Settings& s) {
  return attend(quantize(call, s), call, s);
}

// Attention by the definition, in fp64.
inline attention::test::Exact exact_of(const Call& call) {
  return attention::test::exact_attention(call.q.to(at::kDouble), call.k.to(at::kDouble),
                                          call.v.to(at::kDouble), call.scale, call.causal);
}

}  // namespace sagelab::attention::sage2::test
