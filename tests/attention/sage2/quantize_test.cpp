// SPDX-License-Identifier: Apache-2.0
// The quantized operands, byte for byte, against the same made by ATen operations over whole tensors; and
// their place in memory against the layouts written out.
#include <gtest/gtest.h>

#include "attention/sage2/layout.h"
#include "attention/sage2/twin.h"
#include "tests/attention/sage2/inputs.h"

namespace sagelab::attention::sage2::test {
namespace {

using at::indexing::Slice;

// Rows [B, S, H, D] as [B, H, tiles, rows, padded], zero where there is nothing.
at::Tensor tiled(const at::Tensor& x, int64_t rows, const at::Tensor& mean = {}) {
  at::Tensor y = x.transpose(1, 2);
  if (mean.defined()) y = y - mean.index({Slice(), Slice(), at::indexing::None, Slice(0, x.size(3))});
  const int64_t padded = x.size(3) <= 64 ? 64 : 128, tiles = (x.size(1) + rows - 1) / rows;
  y = at::constant_pad_nd(y, {0, padded - x.size(3), 0, tiles * rows - x.size(1)});
  return y.unflatten(2, {tiles, rows});
}

struct Scaled {
  at::Tensor values, scale;
};

// One scale to the rows of each group: groups [rows] says which.
Scaled integers(const at::Tensor& tiles, const std::vector<int64_t>& groups, double range) {
  const int64_t count = *std::max_element(groups.begin(), groups.end()) + 1;
  const at::Tensor index = at::tensor(groups), one_hot = at::one_hot(index, count).to(at::kFloat);
  const at::Tensor row_max = tiles.abs().amax(-1);  // [B, H, tiles, rows]
  const at::Tensor amax = (row_max.unsqueeze(-1) * one_hot).amax(-2);
  const at::Tensor inverse = at::where(amax < 1e-35, 0, at::full({}, range, at::kFloat) / amax);
  const at::Tensor scale = at::where(amax < 1e-35, 0, amax / at::full({}, range, at::kFloat));
  const at::Tensor exact = tiles.to(at::kDouble) * inverse.index_select(-1, index).unsqueeze(-1);
  return {at::round(exact).to(at::kFloat), scale};
}

std::vector<int64_t> q_groups(Arch arch) {
  const int64_t warp = arch == Arch::Sm90 ? 16 : 32;
  std::vector<int64_t> groups;
  for (int64_t r = 0; r < 128; ++r) groups.push_back(r / warp * 8 + r % 8);
  return groups;
}
std::vector<int64_t> k_groups(Arch arch) {
  std::vector<int64_t> groups;
  for (int64_t r = 0; r < (arch == Arch::Sm90 ? 128 : 64); ++r) groups.push_back(r % 8 / 2);
  return groups;
}

// The 16-byte chunks of 8 rows of 128 bytes, 16 of 64 or 32 of 32 take turns.
int64_t place(int64_t row, int64_t byte, int64_t row_bytes) {
  const int64_t turn = row_bytes == 128 ? row % 8 : row_bytes == 64 ? row / 2 % 4 : row / 4 % 2;
  return row * row_bytes + ((byte / 16) ^ turn) * 16 + byte % 16;
}

// Bytes [.., rows, row bytes] in plain order.
at::Tensor plain(const at::Tensor& tiles) {
  const int64_t rows = tiles.size(3), bytes = tiles.size(4);
  std::vector<int64_t> order;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < bytes; ++c) order.push_back(place(r, c, bytes));
  }
  return tiles.flatten(3).index_select(3, at::tensor(order)).unflatten(3, {rows, bytes});
}

at::Tensor decoded(const at::Tensor& tiles, Qk qk) {
  const at::Tensor bytes = plain(tiles);
  if (qk == Qk::Int8) return bytes.view(at::kChar).to(at::kFloat);
  const at::Tensor nibbles =
      at::stack({bytes.bitwise_and(15), bytes.__rshift__(4)}, -1).flatten(-2).to(at::kFloat);
  return at::where(nibbles > 7, nibbles - 16, nibbles);
}

// V's tiles as fp32 [.., keys, channels].
at::Tensor decoded_v(const at::Tensor& tiles, Pv pv) {
  const at::Tensor bytes = plain(tiles);
  if (pv == Pv::Fp16) return bytes.view(at::kHalf).to(at::kFloat).transpose(-1, -2);
  const int64_t within[] = {0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15};
  std::vector<int64_t> position(size_t(bytes.size(4)));
  for (int64_t i = 0; i < bytes.size(4); ++i) position[size_t(i / 16 * 16 + within[i % 16])] = i;
  const at::Tensor values = bytes.view(at::kFloat8_e4m3fn).to(at::kFloat);
  return values.transpose(-1, -2).index_select(-2, at::tensor(position));
}

std::vector<int64_t> sampled_tokens(int64_t length) {
  std::vector<int64_t> all;
  for (int64_t block = 0; block < tiles(length, kSampleStride); ++block)
    all.push_back(sampled_token(block, length));
  return all;
}

// What the scales of V are made from, of smoothed tiles [B, H, tiles, rows, D].
at::Tensor v_amax(const at::Tensor& tiles, const Settings& s, int64_t length) {
  if (s.v == VScale::Tile) return tiles.abs().amax(-2);
  const at::Tensor all = tiles.abs().amax(at::IntArrayRef{-2, -3}).unsqueeze(2);
  if (s.v == VScale::Channel) return all;
  const at::Tensor some =
      tiles.flatten(2, 3).index_select(2, at::tensor(sampled_tokens(length))).abs().amax(2, true);
  const at::Tensor room = some * kVMargin;
  EXPECT_TRUE((all * 2 < room).logical_or(all == 0).all().item<bool>()) << "these inputs were to fit";
  return room;
}

Scaled values(const at::Tensor& tiles, const Settings& s, int64_t length) {
  const at::Tensor amax = v_amax(tiles, s, length);
  if (s.pv == Pv::Fp16) {
    const at::Tensor scale = at::exp2(at::ceil(at::log2(amax / 32768))).clamp_min(1);
    return {(tiles / scale.unsqueeze(-2)).to(at::kHalf).to(at::kFloat), scale};
  }
  const at::Tensor range = at::full({}, s.pv == Pv::Fp8 ? 448. : 2.25, at::kFloat);
  const at::Tensor inverse = at::where(amax < 1e-35, 0, range / amax);
  const at::Tensor scaled = (tiles * inverse.unsqueeze(-2)).clamp(-448, 448);
  return {scaled.to(at::kFloat8_e4m3fn).to(at::kFloat), at::where(amax < 1e-35, 0, amax / range)};
}

void expect_same(const at::Tensor& actual, const at::Tensor& expected, const char* what) {
  ASSERT_EQ(actual.sizes(), expected.sizes()) << what;
  EXPECT_TRUE(actual.equal(expected))
      << what << ": " << (actual != expected).sum().item<int64_t>() << " of " << actual.numel() << " differ";
}

// One head of K and V serves as many of Q.
at::Tensor for_queries(const Quantized& x, const at::Tensor& of_keys) {
  return of_keys.repeat_interleave(x.q.size(1) / x.k.size(1), 1).to(at::kDouble);
}

// keys [B, Hkv, tiles, rows, D], smoothed.
void expect_delta(const Quantized& x, const at::Tensor& keys) {
  const at::Tensor all = for_queries(x, keys.flatten(2, 3));
  const at::Tensor delta = at::matmul(x.q_mean.to(at::kDouble), all.transpose(-1, -2));
  EXPECT_TRUE(at::allclose(x.delta.to(at::kDouble), delta, 1e-5, 1e-5));
}

void expect_shift(const Quantized& x, const at::Tensor& q) {
  const at::Tensor mean = for_queries(x, x.k_mean.narrow(2, 0, q.size(3)));
  const at::Tensor shift = at::einsum("bshd,bhd->bhs", {q.to(at::kDouble), mean});
  EXPECT_TRUE(at::allclose(x.q_shift.to(at::kDouble), shift, 1e-5, 1e-5));
}

struct Case {
  const char* spec;
  Shape shape;
};

class Quantize : public testing::TestWithParam<Case> {};

TEST_P(Quantize, IsByteForByteWhatTheFormulasGive) {
  const Settings s = settings_of(GetParam().spec);
  Call call = call_of(GetParam().shape);
  call.want_lse = true;
  call.v = call.v * at::linspace(0.1, 30, call.v.size(3));
  const Quantized x = quantize(call, s);
  const int64_t rows = s.arch == Arch::Sm90 ? 128 : 64;
  const double range = s.qk == Qk::Int8 ? 127 : 7;

  at::Tensor q = tiled(call.q, 128);
  if (s.smooth_q) {
    const int64_t last = call.q.size(1) - (q.size(2) - 1) * 128;
    at::Tensor count = at::full({q.size(2), 1}, 128, at::kDouble);
    count[-1][0] = last;
    const at::Tensor mean = (q.to(at::kDouble).sum(3) / count).to(at::kFloat);
    expect_same(x.q_mean, mean, "q_mean");
    q = q - mean.unsqueeze(3);
    for (int64_t r = last; r < 128; ++r) q.index_put_({Slice(), Slice(), -1, r}, 0);
  }
  const Scaled q8 = integers(q, q_groups(s.arch), range);
  expect_same(decoded(x.q, s.qk), q8.values, "q");
  expect_same(x.q_scale, q8.scale, "q_scale");

  // A mean's last bit may hang on the order of its sum: what follows takes the one that was found.
  const auto padding_of = [&](const at::Tensor& mean) {
    return mean.narrow(2, call.k.size(3), mean.size(2) - call.k.size(3));
  };
  if (s.smooth_k != Mean::Off) {
    EXPECT_TRUE(padding_of(x.k_mean).eq(0).all().item<bool>());
  }
  const at::Tensor k = tiled(call.k, rows, x.k_mean);
  at::Tensor real = at::ones_like(call.k);
  const at::Tensor k_real = k * tiled(real, rows);
  const Scaled k8 = integers(k_real, k_groups(s.arch), range);
  expect_same(decoded(x.k, s.qk), k8.values, "k");
  expect_same(x.k_scale, k8.scale, "k_scale");

  const Scaled v = values(tiled(call.v, rows, x.v_mean) * tiled(real, rows), s, call.v.size(1));
  expect_same(decoded_v(x.v, s.pv), v.values, "v");
  expect_same(x.v_scale, v.scale, "v_scale");
  EXPECT_FALSE(x.q_odd.any().item<bool>());
  EXPECT_FALSE(x.kv_odd.any().item<bool>());

  if (s.smooth_q) expect_delta(x, k_real);
  if (s.smooth_k != Mean::Off) expect_shift(x, call.q);
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const char* spec :
       {"sage2", "sage2(arch=sm80)", "sage2(arch=sm89)", "sage2(pv=fp8half)", "sage2(qk=int4)",
        "sage2(arch=sm80,qk=int4)", "sage2(v=tile,smooth_v=full)", "sage2(arch=sm89,v=tile)",
        "sage2(mean=off)", "sage2(mean=full,v=channel)", "sage2(arch=sm80,smooth_v=full)",
        "sage2(smooth_v=off)", "sage2(qk=int4,smooth_q=off)"}) {
    for (const Shape& shape :
         {Shape{300, 197, 128, 4, 2, 2}, Shape{1, 1, 64}, Shape{128, 64, 40, 2, 1}, Shape{65, 129, 96}}) {
      all.push_back({spec, shape});
    }
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(Every, Quantize, testing::ValuesIn(cases()));

TEST(QuantizeMeans, AreOverAllTokensOrTheSampledOnes) {
  Call call = call_of({5, 1000, 64, 2, 2, 2});
  call.v = call.v + 3;
  const Quantized full = quantize(call, settings_of("sage2(mean=full,smooth_v=full)"));
  EXPECT_LT((full.k_mean - call.k.mean(1)).abs().max().item<double>(), 1e-6);
  EXPECT_LT((full.v_mean - call.v.mean(1)).abs().max().item<double>(), 1e-6);
  const std::vector<int64_t> tokens = sampled_tokens(1000);
  ASSERT_EQ(tokens.size(), size_t(1000 + kSampleStride - 1) / kSampleStride);
  for (size_t b = 0; b < tokens.size(); ++b) EXPECT_EQ(tokens[b] / kSampleStride, int64_t(b));
  const auto sample = [&](const at::Tensor& x) { return x.index_select(1, at::tensor(tokens)).mean(1); };
  const Quantized sampled = quantize(call, settings_of("sage2(mean=sampled,smooth_v=sampled)"));
  EXPECT_LT((sampled.k_mean - sample(call.k)).abs().max().item<double>(), 1e-6);
  EXPECT_LT((sampled.v_mean - sample(call.v)).abs().max().item<double>(), 1e-6);
}

TEST(QuantizeMeans, OfVAreTakenWhereTheyAreLarge) {
  Call call = call_of({5, 1000});
  call.v.select(3, 7).add_(2);
  for (const char* spec : {"sage2", "sage2(v=channel)", "sage2(v=tile)", "sage2(v=tile,smooth_v=full)"}) {
    const Quantized x = quantize(call, settings_of(spec));
    EXPECT_TRUE(x.v_mean.select(2, 7).gt(1.5).all().item<bool>()) << spec;
    EXPECT_GT(x.v_mean.eq(0).sum().item<int64_t>(), 100) << spec;
  }
}

// One value that no sampled token announces: the head gets the scales of all its tokens, the other keeps its
// own.
TEST(QuantizeValues, BeyondTheRoomOfSampledScales) {
  const auto tokens = sampled_tokens(500);
  const int64_t hidden = tokens[3] == 48 ? 49 : 48;
  ASSERT_EQ(std::count(tokens.begin(), tokens.end(), hidden), 0);
  for (const double size : {30., 1000.}) {
    Call call = call_of({5, 500});
    call.v[0][hidden][1][9] = size;
    const Quantized x = quantize(call, settings_of("sage2")),
                    all = quantize(call, settings_of("sage2(v=channel)"));
    const bool refit = size > 100;
    const at::Tensor ratio = x.v_scale / all.v_scale;
    EXPECT_TRUE(ratio[0][0].gt(4).all().item<bool>());
    EXPECT_EQ(ratio[0][1].gt(1.2).any().item<bool>(), !refit) << size;
    const at::Tensor exact = exact_of(call).out;
    EXPECT_LT(relative_error(attend(x, call, settings_of("sage2")).out, exact), .06) << size;
  }
}

TEST(QuantizeValues, ChannelsWhoseSampledTokensAreZero) {
  Call call = call_of({5, 500});
  const at::Tensor kept = call.v[0][49].clone();
  call.v.zero_();
  call.v[0][sampled_token(3, 500) == 49 ? 50 : 49].copy_(kept);
  const Settings s = settings_of("sage2");
  EXPECT_LT(relative_error(attend(quantize(call, s), call, s).out, exact_of(call).out), .06);
}

// Every 16th token of a 64 x 64 grid is of four columns; the jitter sees all.
TEST(QuantizeMeans, SampledTokensAreOfManyColumns) {
  std::vector<bool> seen(64);
  for (int64_t b = 0; b < 256; ++b) seen[size_t(sampled_token(b, 1 << 20) % 64)] = true;
  EXPECT_EQ(std::count(seen.begin(), seen.end(), true), 64);
}

TEST(QuantizeMeans, MayBeGiven) {
  const Call call = call_of({9, 200, 40});
  const Means means{call.k.mean(1) + 1, call.v.mean(1) - 1};
  const Quantized x = quantize(call, settings_of("sage2(mean=full,smooth_v=full)"), &means);
  EXPECT_TRUE(x.k_mean.narrow(2, 0, 40).equal(means.k));
  EXPECT_TRUE(x.v_mean.narrow(2, 0, 40).equal(means.v));
}

}  // namespace
}  // namespace sagelab::attention::sage2::test
