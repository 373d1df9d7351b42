// SPDX-License-Identifier: Apache-2.0
#include "app/commands/bench/attention/inputs.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "attention/error.h"
#include "attention/joint.h"

namespace sagelab::bench {
namespace {

constexpr double kKeyOffsets = 8, kValueOffsets = 4;  // standard deviations over the channels
constexpr double kRopeBase = 10000, kNormEps = 1e-6;
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
attention::Rope grid_rope(int64_t tokens, int64_t head_dim, const at::Device& device) {
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

void norm_and_rotate(attention::Call& call, at::Generator& generator) {
  const int64_t dim = call.q.size(3);
  const auto weight = [&] { return at::randn({dim}, generator, call.q.options()).mul_(0.1).add_(1); };
  using Kind = attention::Norm::Kind;
  attention::Segment s{
      .q = call.q, .k = call.k, .v = call.v, .q_norm = {}, .k_norm = {}, .rope = {}, .out = call.q};
  s.q_norm = {Kind::Rms, weight(), {}, kNormEps};
  s.k_norm = {Kind::Rms, weight(), {}, kNormEps};
  s.rope = grid_rope(call.q.size(1), dim, call.q.device());
  const auto gathered = attention::gather_reference({{&s, 1}, call.scale, {}});
  call.q = gathered.q, call.k = gathered.k;
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
  const bool known = std::any_of(kDistributions.begin(), kDistributions.end(),
                                 [&](const auto& d) { return d.name == distribution; });
  if (!known) throw Error(fmt::format("there is no distribution {}", distribution));
  auto generator = generator_on(options.device(), seed);
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
  if (distribution == "normed-rotated") norm_and_rotate(call, generator);
  const auto dtype = options.dtype().toScalarType();
  call.q = call.q.to(dtype), call.k = call.k.to(dtype), call.v = call.v.to(dtype);
  return call;
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
  const int64_t group = p.heads / p.kv_heads, count = rows.numel();
  const auto keys = at::arange(p.kv_len, rows.options());
  const int64_t step = std::clamp<int64_t>(kChunkScores / std::max<int64_t>(p.kv_len * group, 1), 1, count);
  auto out = at::empty({p.batch, count, p.heads, p.head_dim}, call.q.options().dtype(at::kDouble));
  for (int64_t b = 0; b < p.batch; ++b)
    for (int64_t h = 0; h < p.kv_heads; ++h) {
      const auto k = call.k.select(0, b).select(1, h).to(at::kDouble);
      const auto v = call.v.select(0, b).select(1, h).to(at::kDouble);
      for (int64_t first = 0; first < count; first += step) {
        const auto some = rows.narrow(0, first, std::min(step, count - first));
        const auto q = call.q.select(0, b).narrow(1, h * group, group).index_select(0, some).to(at::kDouble);
        auto scores = at::matmul(q, k.t()) * call.scale;  // [rows, group, Skv]
        if (p.causal) {
          const auto unseen = keys.unsqueeze(0) > (some + (p.kv_len - p.q_len)).unsqueeze(1);
          scores.masked_fill_(unseen.unsqueeze(1), -std::numeric_limits<double>::infinity());
        }
        out.select(0, b)
            .narrow(0, first, some.numel())
            .narrow(1, h * group, group)
            .copy_(at::matmul(at::softmax(scores, -1), v));
      }
    }
  return out;
}

}  // namespace sagelab::bench
