// SPDX-License-Identifier: Apache-2.0
#include "attention/study/study.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "attention/error.h"

namespace sagelab::attention::study {
namespace {

constexpr int64_t kTileQueries = 128, kKeys = 64;  // of a tile

// x with every group of values, those along dims, rounded to integers up to `range` times their scale.
at::Tensor rounded(const at::Tensor& x, at::IntArrayRef dims, double range) {
  const at::Tensor scale = x.abs().amax(dims, true) / range;
  return at::where(scale > 0, at::round(x / scale).clamp(-range, range) * scale, at::zeros_like(x));
}

// q [H, n * 128, D].
at::Tensor rounded_queries(const at::Tensor& q, Group group, double range) {
  const int64_t h = q.size(0), d = q.size(2);
  switch (group) {
    case Group::Token:
      return rounded(q, {2}, range);
    case Group::Thread:
      return rounded(q.view({h, -1, 4, 8, d}), {2, 4}, range).view(q.sizes());
    case Group::Block:
      return rounded(q.view({h, -1, kTileQueries, d}), {2, 3}, range).view(q.sizes());
    case Group::Tensor:
      return rounded(q, {0, 1, 2}, range);
  }
  TORCH_CHECK(false, "no such group: ", int(group));
}

// k [H, S, D] of any S; rows are added to fill a tile, and taken away again.
at::Tensor rounded_keys(const at::Tensor& k, Group group, double range) {
  if (group == Group::Token) return rounded(k, {2}, range);
  if (group == Group::Tensor) return rounded(k, {0, 1, 2}, range);
  const int64_t h = k.size(0), s = k.size(1), d = k.size(2), missing = (kKeys - s % kKeys) % kKeys;
  const at::Tensor whole = at::constant_pad_nd(k, {0, 0, 0, missing});
  const at::Tensor r = group == Group::Thread
                           ? rounded(whole.view({h, -1, kKeys / 8, 4, 2, d}), {2, 4, 5}, range)
                           : rounded(whole.view({h, -1, kKeys, d}), {2, 3}, range);
  return r.reshape(whole.sizes()).narrow(1, 0, s);
}

// Sylvester's matrix of the largest power of two in n, once for each block of so many channels.
at::Tensor hadamard(int64_t n, const at::TensorOptions& options) {
  const int64_t block = n & -n;
  at::Tensor m = at::ones({1, 1}, options);
  while (m.size(0) < block) m = at::cat({at::cat({m, m}, 1), at::cat({m, -m}, 1)});
  return at::kron(at::eye(n / block, options), m / std::sqrt(double(block)));
}

double largest(Pv pv) {
  return pv == Pv::Int8 ? 127 : pv == Pv::E5m2 ? 57344 : 448;
}

// x, at most `largest` in size, as the numbers that tensor cores take.
at::Tensor as_numbers(const at::Tensor& x, Pv pv) {
  switch (pv) {
    case Pv::Int8:
      return at::round(x);
    case Pv::E5m2:
      return x.to(at::kFloat8_e5m2).to(at::kFloat);
    case Pv::E4m3:
      return x.to(at::kFloat8_e4m3fn).to(at::kFloat);
    case Pv::Fp16:
      return x.to(at::kHalf).to(at::kFloat);
  }
  TORCH_CHECK(false, "no such type: ", int(pv));
}

at::Tensor rounded_probabilities(const at::Tensor& p, Pv pv) {
  return pv == Pv::Fp16 ? as_numbers(p, pv) : as_numbers(p * largest(pv), pv) / largest(pv);
}

at::Tensor rounded_values(const at::Tensor& v, Pv pv) {
  if (pv == Pv::Fp16) return as_numbers(v, pv);
  const at::Tensor scale = (v.abs().amax(1, true) / largest(pv)).clamp_min(1e-30);
  return as_numbers((v / scale).clamp(-largest(pv), largest(pv)), pv) * scale;
}

at::Tensor queries_of(const at::Tensor& q, const std::vector<int64_t>& tiles) {
  std::vector<at::Tensor> parts;
  for (const int64_t tile : tiles) parts.push_back(q.narrow(1, tile * kTileQueries, kTileQueries));
  return at::cat(parts, 1);
}

struct Rounded {
  at::Tensor q, k, v;  // [H, compared, D], [H, S, D]
  at::Tensor q_mean;   // [H, tiles, D]; undefined where nothing was subtracted
  at::Tensor k_exact;  // what q_mean is multiplied with
};

Rounded round_layer(const Layer& x, const Choice& choice, const Truth& truth) {
  at::Tensor q = queries_of(x.q, truth.tiles), k = x.k;
  Rounded r;
  if (choice.smooth == Smooth::K || choice.smooth == Smooth::Both) k = k - k.mean(1, true);
  if (choice.smooth == Smooth::Hadamard) {
    const at::Tensor turn = hadamard(q.size(2), q.options());
    q = q.matmul(turn), k = k.matmul(turn);
  }
  if (choice.smooth == Smooth::Q || choice.smooth == Smooth::Both) {
    const at::Tensor tiles = q.view({q.size(0), -1, kTileQueries, q.size(2)});
    r.q_mean = tiles.mean(2);
    q = (tiles - r.q_mean.unsqueeze(2)).view(q.sizes());
    r.k_exact = k;
  }
  const double range = choice.bits == 4 ? 7 : 127;
  r.q = rounded_queries(q, choice.group, range);
  r.k = rounded_keys(k, choice.group, range);
  r.v = rounded_values(x.v, choice.pv);
  return r;
}

}  // namespace

Truth truth_of(const Layer& layer, int64_t tiles) {
  const int64_t all = layer.q.size(1) / kTileQueries;
  if (all == 0) {
    throw Error("the accuracy studies compare whole tiles of 128 queries, and there are fewer",
                "take inputs of at least 128 tokens");
  }
  Truth truth;
  const int64_t n = std::min(tiles, all);
  for (int64_t i = 0; i < n; ++i) truth.tiles.push_back((2 * i + 1) * all / (2 * n));
  const double scale = 1 / std::sqrt(double(layer.q.size(2)));
  std::vector<at::Tensor> heads;
  for (int64_t h = 0; h < layer.q.size(0); ++h) {
    const at::Tensor k = layer.k[h].to(at::kDouble).t(), v = layer.v[h].to(at::kDouble);
    std::vector<at::Tensor> rows;
    for (const int64_t tile : truth.tiles) {
      const at::Tensor q = layer.q[h].narrow(0, tile * kTileQueries, kTileQueries).to(at::kDouble);
      rows.push_back(at::softmax(q.matmul(k) * scale, -1).matmul(v));
    }
    heads.push_back(at::cat(rows));
  }
  truth.out = at::stack(heads);
  return truth;
}

Errors errors_of(const Layer& layer, const Choice& choice, const Truth& truth) {
  const Rounded x = round_layer(layer, choice, truth);
  const double scale = 1 / std::sqrt(double(layer.q.size(2)));
  double error = 0, magnitude = 0, square = 0, dot = 0, ours = 0, theirs = 0;
  for (int64_t h = 0; h < x.q.size(0); ++h) {
    for (size_t tile = 0; tile < truth.tiles.size(); ++tile) {
      const int64_t first = int64_t(tile) * kTileQueries;
      at::Tensor s = x.q[h].narrow(0, first, kTileQueries).matmul(x.k[h].t());
      if (x.q_mean.defined()) s += x.k_exact[h].matmul(x.q_mean[h][int64_t(tile)]);
      s *= scale;
      const at::Tensor p = (s - s.amax(-1, true)).exp();
      const at::Tensor out = rounded_probabilities(p, choice.pv).matmul(x.v[h]) / p.sum(-1, true);
      const at::Tensor a = out.to(at::kDouble), b = truth.out[h].narrow(0, first, kTileQueries);
      error += (a - b).abs().sum().item<double>(), magnitude += b.abs().sum().item<double>();
      square += (a - b).square().sum().item<double>(), dot += (a * b).sum().item<double>();
      ours += a.square().sum().item<double>(), theirs += b.square().sum().item<double>();
    }
  }
  Errors e;
  e.cosine = dot / std::sqrt(ours * theirs);
  e.relative_l1 = error / magnitude;
  e.rmse = std::sqrt(square / double(truth.out.numel()));
  return e;
}

}  // namespace sagelab::attention::study
