// SPDX-License-Identifier: Apache-2.0
#include "app/commands/bench/attention/inputs.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <random>

#include "attention/error.h"

namespace sagelab::bench {
namespace {

using attention::Norm;
using attention::Rope;
using attention::Segment;

constexpr double kKeyOffsets = 8, kValueOffsets = 4;  // standard deviations over the channels
constexpr double kRopeBase = 10000, kNormEps = 1e-6, kNormSpread = 0.1;
constexpr int64_t kChunkScores = int64_t{1} << 25;

constexpr std::array<Distribution, 4> kDistributions{{
    {"normal", "q, k and v from N(0, 1)"},
    {"outliers", "k with an offset of its own on each channel, from N(0, 8^2)"},
    {"biased-v", "v with an offset of its own on each channel, from N(0, 4^2)"},
    {"normed-rotated",
     "k as in outliers; then q and k RMS-normed over the head and rotated by RoPE on a square grid"},
}};

at::Generator generator_on(const at::Device& device, uint64_t seed) {
  auto generator =
      device.is_cpu()
          ? at::make_generator<at::CPUGeneratorImpl>(uint64_t(0))
          : at::globalContext().getAcceleratorHooksInterface(device.type()).getNewGenerator(device.index());
  generator.set_current_seed(seed);
  return generator;
}

// cos and sin [S, D/2]: tokens lie row by row on a square; the first half of the pairs turns with the row,
// the rest with the column.
Rope grid_rope(int64_t tokens, int64_t head_dim, const at::Device& device) {
  const auto options = at::TensorOptions().device(device).dtype(at::kDouble);
  const auto side = int64_t(std::ceil(std::sqrt(double(tokens))));
  const int64_t pairs = head_dim / 2, of_row = pairs / 2;
  const auto index = at::arange(tokens, options);
  const auto row = at::floor(index / double(side)), column = index - row * double(side);
  const auto angles = [&](const at::Tensor& position, int64_t count) {
    return at::outer(position,
                     at::pow(kRopeBase, -at::arange(count, options) / double(std::max<int64_t>(count, 1))));
  };
  const auto angle = at::cat({angles(row, of_row), angles(column, pairs - of_row)}, 1);
  return {angle.cos().to(at::kFloat), angle.sin().to(at::kFloat), {}, {}};
}

// Of rows like x [B, S, H, D]; the weight is drawn in fp32.
Norm rms_norm(const at::Tensor& x, at::Generator& generator) {
  const auto weight = at::randn({x.size(3)}, generator, x.options().dtype(at::kFloat));
  return {Norm::Kind::Rms, weight.mul_(kNormSpread).add_(1).to(x.scalar_type()), {}, kNormEps};
}

void norm_and_rotate(attention::Call& call, at::Generator& generator) {
  Segment s{.q = call.q, .k = call.k, .v = call.v, .q_norm = {}, .k_norm = {}, .rope = {}, .out = call.q};
  s.q_norm = rms_norm(s.q, generator);
  s.k_norm = rms_norm(s.k, generator);
  s.rope = grid_rope(s.q.size(1), s.q.size(3), s.q.device());
  const auto gathered = attention::gather_reference({{&s, 1}, call.scale, {}});
  call.q = gathered.q, call.k = gathered.k;
}

// Of a shape with text: before norm and RoPE.
attention::Call draw(const Shape& shape, std::string_view distribution, at::Generator& generator,
                     const at::TensorOptions& options) {
  const bool known = std::any_of(kDistributions.begin(), kDistributions.end(),
                                 [&](const auto& d) { return d.name == distribution; });
  if (!known) throw Error(fmt::format("there is no distribution {}", distribution));
  const auto wide = options.dtype(at::kFloat);
  const auto normal = [&](int64_t tokens, int64_t heads) {
    return at::randn({shape.batch, tokens, heads, shape.head_dim}, generator, wide);
  };
  attention::Call call;
  call.q = normal(shape.tokens, shape.heads);
  call.k = normal(shape.tokens, shape.kv_heads);
  call.v = normal(shape.tokens, shape.kv_heads);
  call.scale = 1 / std::sqrt(double(shape.head_dim));
  call.causal = shape.causal;
  if (distribution == "outliers" || distribution == "normed-rotated")
    call.k.add_(normal(1, shape.kv_heads), kKeyOffsets);
  if (distribution == "biased-v") call.v.add_(normal(1, shape.kv_heads), kValueOffsets);
  if (distribution == "normed-rotated" && !shape.text) norm_and_rotate(call, generator);
  const auto dtype = options.dtype().toScalarType();
  call.q = call.q.to(dtype), call.k = call.k.to(dtype), call.v = call.v.to(dtype);
  return call;
}

// Rows [first, first + count) of one projection and of out.
Segment segment_of(const at::Tensor& qkv, const at::Tensor& out, int64_t first, int64_t count) {
  const auto rows = qkv.narrow(1, first, count);
  Segment s;
  s.q = rows.select(2, 0), s.k = rows.select(2, 1), s.v = rows.select(2, 2);
  s.out = out.narrow(1, first, count);
  return s;
}

// [S, D] fp64 of one head of one sample, pair by pair: no code of attention/ takes part.
at::Tensor exact_head(const at::Tensor& x, const Norm& norm, const Rope& rope) {
  const auto wide = x.to(at::kDouble);
  const auto length = at::sqrt(wide.square().mean(-1, true) + norm.eps);
  const auto normed = wide / length * norm.weight.to(at::kDouble);
  if (rope.empty()) return normed;
  const auto pairs = normed.unflatten(1, {-1, 2});
  const auto even = pairs.select(2, 0), odd = pairs.select(2, 1);
  const auto cos = rope.cos.to(at::kDouble), sin = rope.sin.to(at::kDouble);
  return at::stack({even * cos - odd * sin, even * sin + odd * cos}, 2).flatten(1);
}

// One head of k and v of one sample, and the chosen queries that share it: fp64.
struct ExactHead {
  at::Tensor q, k, v;  // [rows, H / Hkv, D], [Skv, D], [Skv, D]
};

ExactHead exact_head(const std::vector<Segment>& segments, int64_t sample, int64_t head,
                     const at::Tensor& rows) {
  std::vector<at::Tensor> q, k, v;
  for (const auto& s : segments) {
    const auto of = [&](const at::Tensor& x) { return x.select(0, sample).select(1, head); };
    q.push_back(exact_head(of(s.q), s.q_norm, s.rope));
    k.push_back(exact_head(of(s.k), s.k_norm, s.rope));
    v.push_back(of(s.v).to(at::kDouble));
  }
  return {at::cat(q).index_select(0, rows).unsqueeze(1), at::cat(k), at::cat(v)};
}

// Asks for one head after the other: all of them in fp64 could be more than there is room for.
at::Tensor exact_rows(const attention::Problem& p, double scale, const at::Tensor& rows,
                      const std::function<ExactHead(int64_t sample, int64_t head)>& head_of) {
  const int64_t group = p.heads / p.kv_heads, count = rows.numel();
  const auto keys = at::arange(p.kv_len, rows.options());
  const int64_t step = std::clamp<int64_t>(kChunkScores / std::max<int64_t>(p.kv_len * group, 1), 1, count);
  auto out = at::empty({p.batch, count, p.heads, p.head_dim}, rows.options().dtype(at::kDouble));
  for (int64_t b = 0; b < p.batch; ++b)
    for (int64_t h = 0; h < p.kv_heads; ++h) {
      const auto head = head_of(b, h);
      for (int64_t first = 0; first < count; first += step) {
        const int64_t now = std::min(step, count - first);
        auto scores = at::matmul(head.q.narrow(0, first, now), head.k.t()) * scale;  // [rows, group, Skv]
        if (p.causal) {
          const auto last = rows.narrow(0, first, now) + (p.kv_len - p.q_len);
          const auto unseen = keys.unsqueeze(0) > last.unsqueeze(1);
          scores.masked_fill_(unseen.unsqueeze(1), -std::numeric_limits<double>::infinity());
        }
        out.select(0, b)
            .narrow(0, first, now)
            .narrow(1, h * group, group)
            .copy_(at::matmul(at::softmax(scores, -1), head.v));
      }
    }
  return out;
}

}  // namespace

double operations(const Shape& s) {
  const double scores = double(s.batch) * double(s.heads) * double(s.tokens) * double(s.tokens);
  return 4 * scores * double(s.head_dim) / (s.causal ? 2 : 1);
}

std::span<const Distribution> distributions() {
  return kDistributions;
}

attention::Call draw(const Shape& shape, std::string_view distribution, uint64_t seed,
                     const at::TensorOptions& options) {
  auto generator = generator_on(options.device(), seed);
  return draw(shape, distribution, generator, options);
}

Inputs draw_inputs(const Shape& shape, std::string_view distribution, uint64_t seed,
                   const at::TensorOptions& options) {
  auto generator = generator_on(options.device(), seed);
  Inputs inputs;
  inputs.call = draw(shape, distribution, generator, options);
  if (!shape.text) return inputs;
  auto& call = inputs.call;
  const auto qkv = at::stack({call.q, call.k, call.v}, 2);
  inputs.out = at::empty(call.q.sizes(), options);
  const int64_t text = *shape.text, rest = shape.tokens - text;
  if (text > 0) inputs.segments.push_back(segment_of(qkv, inputs.out, 0, text));
  if (rest > 0) {
    inputs.segments.push_back(segment_of(qkv, inputs.out, text, rest));
    inputs.segments.back().rope = grid_rope(rest, shape.head_dim, options.device());
  }
  for (auto& s : inputs.segments) s.q_norm = rms_norm(s.q, generator), s.k_norm = rms_norm(s.k, generator);
  auto gathered = attention::gather({inputs.segments, call.scale, {}});
  call.q = std::move(gathered.q), call.k = std::move(gathered.k), call.v = std::move(gathered.v);
  return inputs;
}

at::Tensor run_on(const Inputs& inputs, const attention::Backend& backend, attention::Recorder& recorder) {
  if (inputs.segments.empty()) return backend.run(inputs.call, recorder).out;
  backend.run_joint({inputs.segments, inputs.call.scale, {}}, recorder);
  return inputs.out;
}

at::Tensor sample_rows(int64_t tokens, int64_t rows, uint64_t seed, const at::Device& device) {
  std::vector<int64_t> all(size_t(tokens), 0), chosen;
  std::iota(all.begin(), all.end(), 0);
  std::mt19937_64 random(seed);
  std::sample(all.begin(), all.end(), std::back_inserter(chosen), rows, random);
  return at::tensor(chosen, at::kLong).to(device);
}

at::Tensor exact_rows(const attention::Call& call, const at::Tensor& rows) {
  const auto p = attention::problem_of(call);
  const int64_t group = p.heads / p.kv_heads;
  return exact_rows(p, call.scale, rows, [&](int64_t sample, int64_t head) {
    const auto q = call.q.select(0, sample).narrow(1, head * group, group).index_select(0, rows);
    const auto k = call.k.select(0, sample).select(1, head), v = call.v.select(0, sample).select(1, head);
    return ExactHead{q.to(at::kDouble), k.to(at::kDouble), v.to(at::kDouble)};
  });
}

at::Tensor exact_rows(const Inputs& inputs, const at::Tensor& rows) {
  if (inputs.segments.empty()) return exact_rows(inputs.call, rows);
  return exact_rows(
      attention::problem_of(inputs.call), inputs.call.scale, rows,
      [&](int64_t sample, int64_t head) { return exact_head(inputs.segments, sample, head, rows); });
}

}  // namespace sagelab::bench
