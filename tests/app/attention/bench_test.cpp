// SPDX-License-Identifier: Apache-2.0
#include "app/commands/bench/attention/attention.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>
#include <gmock/gmock.h>

#include <chrono>
#include <cmath>
#include <limits>
#include <set>
#include <thread>

#include "attention/error.h"
#include "tests/app/attention/candidates.h"

namespace sagelab::bench {
namespace {

using ::testing::HasSubstr;

// Serves what the reference gives, after a while; counts calls into a shared log.
class Slow : public attention::Backend {
 public:
  Slow(std::string name, int milliseconds, std::string& log)
      : name_(std::move(name)), pause_(milliseconds), log_(log) {}
  std::string name() const override { return name_; }
  std::string unsupported(const attention::Problem& p) const override {
    return p.head_dim == 24 ? "head dimension 24 is not for it" : "";
  }
  attention::Output run(const attention::Call& call, attention::Recorder& recorder) const override {
    std::this_thread::sleep_for(pause_);
    log_ += name_;
    seen.insert(call.q.const_data_ptr());
    return attention::make_backend("reference")->run(call, recorder);
  }

  mutable std::set<const void*> seen;  // queries

 protected:
  std::string name_;
  std::chrono::milliseconds pause_;
  std::string& log_;
};

// Has a kernel of its own, four times as fast as the whole.
class WithKernel final : public Slow {
 public:
  using Slow::Slow;
  std::function<void()> prepared(const attention::Call&) const override {
    return [this] {
      std::this_thread::sleep_for(pause_ / 4);
      log_ += "k";
    };
  }
};

class Broken final : public attention::Backend {
 public:
  enum class How { Error, Internal, NotFinite, Memory };
  explicit Broken(How how) : how_(how) {}
  std::string name() const override { return "broken"; }
  std::string unsupported(const attention::Problem&) const override { return {}; }
  attention::Output run(const attention::Call& call, attention::Recorder&) const override {
    if (how_ == How::Error) throw Error("this chip has none", "buy another");
    if (how_ == How::Memory) TORCH_CHECK_WITH(OutOfMemoryError, false, "tried to allocate a lot");
    TORCH_CHECK(how_ != How::Internal, "the launch failed");
    auto out = at::zeros_like(call.q);
    out[0][3][0][1] = std::numeric_limits<float>::quiet_NaN();
    return {out, {}};
  }

 private:
  How how_;
};

Settings settings(std::vector<Candidate> candidates) {
  Settings s;
  s.candidates = std::move(candidates);
  s.warmup = 1;
  s.repeat = 4;
  return s;
}

const Shape kShape{.batch = 2, .heads = 4, .kv_heads = 2, .tokens = 33, .head_dim = 16, .causal = false};

TEST(BenchAttentionInputs, ASeedGivesTheSameTensorsAndAnotherOthers) {
  for (const auto& [name, help] : distributions()) {
    const auto a = draw(kShape, name, 7, on_cpu()), b = draw(kShape, name, 7, on_cpu()),
               c = draw(kShape, name, 8, on_cpu());
    EXPECT_TRUE(at::equal(a.q, b.q) && at::equal(a.k, b.k) && at::equal(a.v, b.v)) << name;
    EXPECT_FALSE(at::equal(a.q, c.q) || at::equal(a.k, c.k) || at::equal(a.v, c.v)) << name;
    EXPECT_EQ(a.q.sizes(), at::IntArrayRef({2, 33, 4, 16})) << name;
    EXPECT_EQ(a.v.sizes(), at::IntArrayRef({2, 33, 2, 16})) << name;
    EXPECT_DOUBLE_EQ(a.scale, 0.25);
  }
  EXPECT_EQ(draw(kShape, "normal", 0, on_cpu(at::kBFloat16)).k.scalar_type(), at::kBFloat16);
  EXPECT_THROW(draw(kShape, "uniform", 0, on_cpu()), Error);
}

// The spread of the means over the tokens, and of what is left without them.
std::pair<double, double> spreads(const at::Tensor& x) {
  const auto mean = x.mean(1, true);
  return {mean.std().item<double>(), (x - mean).std().item<double>()};
}

TEST(BenchAttentionInputs, DistributionsAreWhatTheirHelpSays) {
  const Shape shape{.batch = 2, .heads = 8, .kv_heads = 8, .tokens = 400, .head_dim = 64, .causal = false};
  const auto expect = [](const at::Tensor& x, double offsets, double rest) {
    const auto [between, within] = spreads(x);
    EXPECT_NEAR(between, offsets, 0.1 * offsets + 0.06);
    EXPECT_NEAR(within, rest, 0.05 * rest);
  };
  const auto normal = draw(shape, "normal", 1, on_cpu());
  for (const auto& x : {normal.q, normal.k, normal.v}) expect(x, 0, 1);
  const auto outliers = draw(shape, "outliers", 1, on_cpu());
  expect(outliers.q, 0, 1);
  expect(outliers.k, 8, 1);
  expect(outliers.v, 0, 1);
  const auto biased = draw(shape, "biased-v", 1, on_cpu());
  expect(biased.k, 0, 1);
  expect(biased.v, 4, 1);
  const auto rotated = draw(shape, "normed-rotated", 1, on_cpu());
  for (const auto& x : {rotated.q, rotated.k}) {  // a rotation keeps the length that the norm gave
    const auto rms = x.square().mean(-1).sqrt();
    EXPECT_NEAR(rms.mean().item<double>(), 1, 0.08);
    EXPECT_LT(rms.max().item<double>(), 1.5);
  }
  expect(rotated.v, 0, 1);
  // What was one offset per channel now turns with the position: the slow pairs keep it, the fast ones do
  // not.
  const auto fast = rotated.k.narrow(3, 0, 2).mean(1).abs().mean().item<double>();
  const auto slow = rotated.k.narrow(3, 28, 4).mean(1).abs().mean().item<double>();
  EXPECT_GT(slow, 4 * fast);
}

TEST(BenchAttentionInputs, ExactRowsAreTheReferences) {
  for (const bool causal : {false, true}) {
    auto shape = kShape;
    shape.causal = causal;
    const auto call = draw(shape, "normal", 3, on_cpu(at::kDouble));
    const auto rows = sample_rows(shape.tokens, 9, 5, at::kCPU);
    ASSERT_EQ(rows.numel(), 9);
    EXPECT_TRUE((rows.diff() > 0).all().item<bool>());
    attention::Recorder recorder;
    const auto whole = attention::make_backend("reference")->run(call, recorder).out;
    EXPECT_LT((exact_rows(call, rows) - whole.index_select(1, rows)).abs().max().item<double>(), 1e-12);
  }
  EXPECT_EQ(sample_rows(5, 256, 0, at::kCPU).numel(), 5);
  EXPECT_FALSE(at::equal(sample_rows(1000, 9, 0, at::kCPU), sample_rows(1000, 9, 1, at::kCPU)));
}

TEST(BenchAttentionInputs, OperationsAndSets) {
  EXPECT_DOUBLE_EQ(
      operations({.batch = 4, .heads = 32, .kv_heads = 8, .tokens = 1024, .head_dim = 128, .causal = false}),
      4.0 * 4 * 32 * 1024 * 1024 * 128);
  EXPECT_DOUBLE_EQ(
      operations({.batch = 1, .heads = 1, .kv_heads = 1, .tokens = 10, .head_dim = 8, .causal = true}),
      4.0 * 100 * 8 / 2);
  EXPECT_EQ(input_sets(1 << 30, 50 << 20), 1);
  EXPECT_EQ(input_sets(100 << 20, 50 << 20), 2);
  EXPECT_EQ(input_sets(10 << 20, 50 << 20), 15);
  EXPECT_EQ(input_sets(1, 50 << 20), 64);
  EXPECT_EQ(input_sets(1, 0), 1);
}

TEST(BenchAttention, TakesTurnsAndTellsTheKernelFromTheWhole) {
  std::string log;
  const auto a = std::make_shared<Slow>("a", 8, log);
  const auto b = std::make_shared<WithKernel>("b", 20, log);
  auto s = settings({{"a", a}, {"b", b}});
  const auto result = measure(kShape, s);
  // A look and an estimate of each (a kernel has not run before), then four turns, of which the first warms
  // up.
  EXPECT_EQ(log,
            "aabbkk"
            "aabbkk"
            "abkabkabk");
  ASSERT_EQ(result.rows.size(), 2u);
  const auto &first = result.rows[0], &second = result.rows[1];
  ASSERT_TRUE(first.run && second.run && second.kernel);
  EXPECT_FALSE(first.kernel);
  EXPECT_EQ(first.run->repeats, 4);
  for (const auto& t : {*first.run, *second.run, *second.kernel}) {
    EXPECT_LE(t.min, t.median);
    EXPECT_LE(t.median, t.max);
  }
  EXPECT_GE(first.run->min, 8e-3);
  EXPECT_GE(second.run->min, 20e-3);
  EXPECT_GE(second.kernel->min, 5e-3);
  EXPECT_LT(second.kernel->median, second.run->median);
  EXPECT_EQ(first.served, "reference");
  EXPECT_LT(first.errors.relative_l1, 1e-6);
}

TEST(BenchAttention, TurnsBeginWithCallsThatLetTheDeviceSettle) {
  std::string log;
  auto s =
      settings({{"a", std::make_shared<Slow>("a", 50, log)}, {"b", std::make_shared<Slow>("b", 50, log)}});
  s.repeat = 6;
  s.settle_seconds = 0.099;
  const auto result = measure(kShape, s);
  EXPECT_EQ(log,
            "aabb"
            "aaaabbbb"
            "aaaabbbb"
            "aaaabbbb");
  EXPECT_EQ(result.rows[0].run->repeats, 6);
}

TEST(BenchAttention, InputsAlternateWhereTheCacheHoldsThem) {
  std::string log;
  const auto a = std::make_shared<Slow>("a", 0, log);
  auto s = settings({{"a", a}});
  EXPECT_EQ(measure(kShape, s).input_sets, 1);
  EXPECT_EQ(a->seen.size(), 1u);
  s.cache_bytes = (33 * 4 + 2 * 33 * 2) * 2 * 16 * 4;  // of q, k and v
  a->seen.clear();
  EXPECT_EQ(measure(kShape, s).input_sets, 3);
  EXPECT_EQ(a->seen.size(), 3u);
}

// Only waits.
class Idle final : public Slow {
 public:
  using Slow::Slow;
  attention::Output run(const attention::Call& call, attention::Recorder&) const override {
    std::this_thread::sleep_for(pause_);
    return {at::zeros_like(call.q), {}};
  }
};

TEST(BenchAttention, ASlowBackendIsRepeatedLess) {
  std::string log;
  auto s =
      settings({{"a", std::make_shared<Slow>("a", 300, log)}, {"b", std::make_shared<Slow>("b", 1, log)}});
  s.repeat = 12;
  s.warmup = 3;
  s.most_seconds = 0.3;
  const auto result = measure(kShape, s);
  EXPECT_EQ(result.rows[0].run->repeats, 1);
  EXPECT_GT(result.rows[1].run->repeats, 1);
}

// Gives the reference's output, a little too large.
class TooLarge final : public Slow {
 public:
  using Slow::Slow;
  attention::Output run(const attention::Call& call, attention::Recorder& recorder) const override {
    return {Slow::run(call, recorder).out * 1.01, {}};
  }
};

TEST(BenchAttention, ErrorsAreAgainstFp64) {
  std::string log;
  auto s = settings({named("reference"), {"large", std::make_shared<TooLarge>("large", 0, log)}});
  auto shape = kShape;
  shape.causal = true;
  const auto exact = measure(shape, s).rows;
  EXPECT_GT(exact[0].errors.relative_l1, 1e-9);  // rounded to fp32
  EXPECT_LT(exact[0].errors.relative_l1, 1e-7);
  EXPECT_NEAR(exact[1].errors.relative_l1, 0.01, 1e-6);
  EXPECT_NEAR(exact[1].errors.cosine, 1, 1e-12);
  s.target.dtype = at::kBFloat16;
  const auto half = measure(shape, s).rows;
  EXPECT_GT(half[0].errors.relative_l1, 1e-4);
  EXPECT_LT(half[0].errors.relative_l1, 3e-3);
}

TEST(BenchAttention, WhatCannotRunSaysWhy) {
  using How = Broken::How;
  const auto broken = [](How how) { return Candidate{"broken", std::make_shared<Broken>(how)}; };
  const auto result =
      measure(kShape, settings({named("sdpa(cudnn)"), broken(How::Error), broken(How::Memory),
                                broken(How::Internal), broken(How::NotFinite), named("sdpa")}));
  const std::vector<std::pair<std::string, bool>> wanted{
      {"it needs a CUDA device, not cpu", false},
      {"this chip has none", false},
      {"out of memory", false},
      {"the launch failed", true},
      {"the output holds values that are not finite", true},
      {"", false}};
  ASSERT_EQ(result.rows.size(), wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i) {
    EXPECT_EQ(result.rows[i].reason, wanted[i].first) << i;
    EXPECT_EQ(result.rows[i].failed, wanted[i].second) << i;
    EXPECT_EQ(result.rows[i].run.has_value(), wanted[i].first.empty()) << i;
  }
  const auto table = table_of(settings({}), result);
  EXPECT_THAT(table, HasSubstr("sdpa(cudnn)       cannot run: it needs a CUDA device, not cpu\n"));
  EXPECT_THAT(table, HasSubstr("broken            failed: the launch failed\n"));
}

// Figures that a person can check.
Result made_up(int64_t tokens, int64_t head_dim) {
  Result result;
  result.shape = {
      .batch = 1, .heads = 2, .kv_heads = 1, .tokens = tokens, .head_dim = head_dim, .causal = true};
  const auto timing = [&](double factor) {
    const double seconds = operations(result.shape) / (factor * 1e12);
    return Timing{seconds, seconds / 2, seconds * 2, 20};
  };
  attention::Errors errors{.cosine = 0.75, .relative_l1 = 0.5, .rmse = 0.25, .max_abs = 2};
  result.rows = {{"sdpa(cudnn)", "sdpa(cudnn)", "", false, timing(600), {}, errors},
                 {"sdpa(flash)", "sdpa(flash)", "", false, timing(300), {}, errors},
                 {"sage2", "sage2(arch=sm90)", "", false, timing(750), timing(900), errors},
                 {"a<b&c", "", "no such chip", false, {}, {}, {}}};
  return result;
}

Settings made_up_settings() {
  return settings({{"sdpa(cudnn)", {}}, {"sdpa(flash)", {}}, {"sage2", {}}, {"a<b&c", {}}});
}

TEST(BenchAttentionReport, Json) {
  const auto json = to_json({"a GPU", "bf16"}, made_up_settings(), {made_up(1024, 128)});
  EXPECT_EQ(json.at("device"), "a GPU");
  const auto& shape = json.at("shapes").at(0);
  EXPECT_EQ(shape.at("tokens"), 1024);
  EXPECT_EQ(shape.at("causal"), true);
  const auto& sage2 = shape.at("backends").at(2);
  EXPECT_DOUBLE_EQ(sage2.at("end_to_end").at("operations_per_second").get<double>(), 750e12);
  EXPECT_DOUBLE_EQ(sage2.at("end_to_end").at("times_as_fast_as").at("sdpa(cudnn)").get<double>(), 1.25);
  EXPECT_DOUBLE_EQ(sage2.at("kernel").at("times_as_fast_as").at("sdpa(flash)").get<double>(), 3);
  EXPECT_EQ(sage2.at("errors").at("one_minus_cosine"), 0.25);
  EXPECT_EQ(sage2.at("served"), "sage2(arch=sm90)");
  EXPECT_TRUE(shape.at("backends").at(0).at("kernel").is_null());
  EXPECT_EQ(shape.at("backends").at(3).at("reason"), "no such chip");
  EXPECT_FALSE(shape.at("backends").at(3).contains("end_to_end"));
}

TEST(BenchAttentionReport, Table) {
  const auto s = made_up_settings();
  EXPECT_THAT(heading_of({"NVIDIA H200 (cuda:0)", "bf16"}, s),
              ::testing::StartsWith("attention on NVIDIA H200 (cuda:0), bf16, normal inputs (seed 0)\n"));
  const auto table = table_of(s, made_up(1024, 128));
  EXPECT_THAT(
      table,
      HasSubstr("1024 tokens, head dim 128, batch 1, 2 heads over 1 of k and v, causal: 0.0005369 TOP a "
                "call, 1 set of inputs\n"));
  EXPECT_THAT(
      table,
      HasSubstr(
          "sage2             0.0007158       750   1.250   2.500  0.0005965       900   1.500   3.000   "
          "2.50e-01  5.00e-01  2.50e-01  by sage2(arch=sm90)\n"));
  EXPECT_THAT(
      table,
      HasSubstr(
          "sdpa(flash)         0.00179       300   0.500   1.000          -         -       -       -"));
}

TEST(BenchAttentionReport, PlotHasALineForEachBackendThatRan) {
  const auto svg = plot_of({"a GPU", "bf16"}, made_up_settings(),
                           {made_up(1024, 64), made_up(4096, 64), made_up(1024, 128)});
  const auto count = [&](const std::string& text) {
    int n = 0;
    for (size_t at = svg.find(text); at != std::string::npos; at = svg.find(text, at + 1)) ++n;
    return n;
  };
  EXPECT_EQ(count("<polyline"), 2 * 4);  // two panels; sage2 has a kernel besides
  EXPECT_EQ(count("stroke-dasharray"), 2);
  EXPECT_EQ(count(">head dim 64, causal, batch 1, 2 heads<"), 1);
  EXPECT_EQ(count(">head dim 128, causal, batch 1, 2 heads<"), 1);
  EXPECT_EQ(count(">sage2 kernel<"), 2);
  EXPECT_EQ(count("a&lt;b&amp;c"), 0);  // it never ran
  EXPECT_EQ(count("attention on a GPU, bf16, normal inputs (seed 0)"), 2);
}

}  // namespace
}  // namespace sagelab::bench
