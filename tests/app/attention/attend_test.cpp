// SPDX-License-Identifier: Apache-2.0
// `sagelab attend`: the real binary on files, against formulas written out here.
#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <map>
#include <optional>

#include "pipelines/core/safetensors.h"
#include "tests/app/program.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;
using Tensors = std::map<std::string, at::Tensor>;

Tensors inputs(int64_t q_len = 9, int64_t kv_len = 9) {
  at::manual_seed(4);
  return {{"q", at::randn({2, q_len, 4, 8})},
          {"k", at::randn({2, kv_len, 2, 8})},
          {"v", at::randn({2, kv_len, 2, 8})}};
}

class AttendTest : public ::testing::Test {
 protected:
  std::string input() const { return folder_ / "in.safetensors"; }
  std::string output() const { return folder_ / "out.safetensors"; }

  ProgramResult attend(const Tensors& tensors, std::vector<std::string> flags = {}) {
    write_safetensors(input(), tensors);
    flags.insert(flags.begin(), {"attend", "--input", input(), "--output", output(), "--device", "cpu"});
    return run_sagelab(flags);
  }

  // The output, after a run that says nothing on stderr.
  Tensors attended(const Tensors& tensors, const std::vector<std::string>& flags = {}) {
    const auto result = attend(tensors, flags);
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_EQ(result.err, "");
    stdout_ = result.out;
    Tensors all;
    const SafetensorsFile file(output());
    for (const auto& [name, stored] : file.tensors()) all[name] = file.tensor(name);
    served_ = file.metadata().at("attention");
    return all;
  }

  void expect_failure(const Tensors& tensors, const std::string& message, int exit_code = 1,
                      const std::vector<std::string>& flags = {}) {
    const auto result = attend(tensors, flags);
    EXPECT_EQ(result.exit_code, exit_code);
    EXPECT_EQ(result.err, "sagelab: " + message + "\n");
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(folder_.names(), std::set<std::string>{"in.safetensors"});  // nothing half done
  }

  TempFolder folder_;
  std::string stdout_, served_;
};

struct Truth {
  at::Tensor out, lse;  // [B, S, H, D], [B, H, S]
};

Truth truth(const Tensors& t, double scale, bool causal) {
  const auto heads = [](const at::Tensor& x, int64_t repeat) {
    return x.to(at::kDouble).transpose(1, 2).repeat_interleave(repeat, 1);
  };
  const int64_t group = t.at("q").size(2) / t.at("k").size(2);
  const auto q = heads(t.at("q"), 1), k = heads(t.at("k"), group), v = heads(t.at("v"), group);
  auto scores = at::matmul(q, k.transpose(2, 3)) * scale;
  if (causal) {
    const int64_t rows = q.size(2), columns = k.size(2);
    const auto seen = at::ones({rows, columns}, at::kBool).tril(columns - rows);
    scores = scores.masked_fill(seen.logical_not(), -std::numeric_limits<double>::infinity());
  }
  return {at::matmul(at::softmax(scores, -1), v).transpose(1, 2), at::logsumexp(scores, -1)};
}

double distance(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

TEST_F(AttendTest, Values) {
  const double root = 1 / std::sqrt(8.0);
  for (const bool causal : {false, true})
    for (const auto& scale : {std::optional<double>(), std::optional(0.7)}) {
      const auto t = inputs(5, 9);
      std::vector<std::string> flags{"--attention", "reference", "--lse"};
      if (causal) flags.push_back("--causal");
      if (scale) flags.insert(flags.end(), {"--scale", "0.7"});
      const auto got = attended(t, flags);
      const auto wanted = truth(t, scale.value_or(root), causal);
      EXPECT_EQ(got.size(), 2u);
      EXPECT_LT(distance(got.at("out"), wanted.out), 1e-6) << causal;
      EXPECT_LT(distance(got.at("lse"), wanted.lse), 1e-6) << causal;
      EXPECT_EQ(got.at("lse").scalar_type(), at::kFloat);
    }
  EXPECT_EQ(served_, "reference");
  EXPECT_THAT(stdout_,
              ::testing::StartsWith(output() + ": out [2, 5, 4, 8] fp32, lse [2, 4, 5] fp32; reference on "));
}

// As `generate --capture-qkv` writes it.
TEST_F(AttendTest, TheFileSaysWhichCallItIsOf) {
  const Tensors tensors = inputs();
  const at::Tensor expected = attended(tensors, {"--scale", "0.3", "--causal"}).at("out");
  const auto run_with = [&](const std::map<std::string, std::string>& metadata,
                            std::vector<std::string> flags) {
    write_safetensors(input(), tensors, metadata);
    flags.insert(flags.begin(), {"attend", "--input", input(), "--output", output(), "--device", "cpu"});
    return run_sagelab(flags);
  };
  EXPECT_EQ(run_with({{"scale", "0.3"}, {"causal", "true"}}, {}).exit_code, 0);
  EXPECT_TRUE(SafetensorsFile(output()).tensor("out").equal(expected));
  EXPECT_EQ(run_with({{"scale", "7"}, {"causal", "false"}}, {"--scale", "0.3", "--causal"}).exit_code, 0);
  EXPECT_TRUE(SafetensorsFile(output()).tensor("out").equal(expected));
  const auto bad = run_with({{"scale", "0,3"}}, {});
  EXPECT_EQ(bad.exit_code, 1);
  EXPECT_EQ(bad.err, "sagelab: " + input() +
                         ": scale is '0,3' in its metadata, which is no number; choose one with --scale\n");
}

TEST_F(AttendTest, TheDefaultServesAndNamesTheKernel) {
  const auto t = inputs();
  const auto got = attended(t);
  EXPECT_EQ(got.size(), 1u);
  EXPECT_LT(distance(got.at("out"), truth(t, 1 / std::sqrt(8.0), false).out), 1e-5);
  EXPECT_EQ(served_, "sdpa(flash)");
}

TEST_F(AttendTest, DtypesAreTheFilesUnlessOneIsAskedFor) {
  auto t = inputs();
  for (auto& [name, value] : t) value = value.to(at::kBFloat16);
  EXPECT_EQ(attended(t).at("out").scalar_type(), at::kBFloat16);
  EXPECT_EQ(attended(t, {"--dtype", "fp32"}).at("out").scalar_type(), at::kFloat);
  const auto wide = attended(t, {"--dtype", "fp64", "--attention", "reference"}).at("out");
  EXPECT_EQ(wide.scalar_type(), at::kDouble);
  EXPECT_LT(distance(wide, truth(t, 1 / std::sqrt(8.0), false).out), 1e-13);
}

// x / sqrt(mean(x^2) + eps) * weight, then pairs (2j, 2j+1) turned.
at::Tensor prepared(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& cos,
                    const at::Tensor& sin, double eps) {
  auto y = x.to(at::kDouble);
  if (weight.defined()) y = y / (y.square().mean(-1, true) + eps).sqrt() * weight;
  if (!cos.defined()) return y;
  const auto pairs = y.unflatten(3, {4, 2});
  const auto a = pairs.select(4, 0), b = pairs.select(4, 1), c = cos.unsqueeze(1), s = sin.unsqueeze(1);
  return at::stack({a * c - b * s, a * s + b * c}, -1).flatten(3);
}

TEST_F(AttendTest, NormAndRope) {
  auto t = inputs();
  const auto angle = at::rand({9, 4}) * 6;
  const at::Tensor q_weight = at::rand({8}) + 0.5, k_weight = at::rand({8}) + 0.5;
  const auto with = [&](const Tensors& extra) {
    auto all = t;
    all.insert(extra.begin(), extra.end());
    return all;
  };
  const auto expected = [&](const at::Tensor& qw, const at::Tensor& kw, bool rope, double eps, bool causal) {
    auto p = t;
    const auto cos = rope ? angle.cos() : at::Tensor(), sin = rope ? angle.sin() : at::Tensor();
    p["q"] = prepared(t["q"], qw, cos, sin, eps);
    p["k"] = prepared(t["k"], kw, cos, sin, eps);
    return truth(p, 1 / std::sqrt(8.0), causal);
  };
  const Tensors rope{{"rope.cos", angle.cos()}, {"rope.sin", angle.sin()}};
  const Tensors norms{{"q_norm.weight", q_weight}, {"k_norm.weight", k_weight}};
  auto both = rope;
  both.insert(norms.begin(), norms.end());
  const at::Tensor none;
  EXPECT_LT(distance(attended(with(rope)).at("out"), expected(none, none, true, 0, false).out), 1e-5);
  EXPECT_LT(distance(attended(with(norms)).at("out"), expected(q_weight, k_weight, false, 1e-6, false).out),
            1e-5);
  EXPECT_LT(distance(attended(with({{"k_norm.weight", k_weight}})).at("out"),
                     expected(none, k_weight, false, 1e-6, false).out),
            1e-5);
  EXPECT_LT(distance(attended(with(both), {"--norm-eps", "0.5"}).at("out"),
                     expected(q_weight, k_weight, true, 0.5, false).out),
            1e-5);
  // With a mask or an LSE they are a step before the call: the same values.
  const auto masked = attended(with(both), {"--causal", "--lse"});
  const auto wanted = expected(q_weight, k_weight, true, 1e-6, true);
  EXPECT_LT(distance(masked.at("out"), wanted.out), 1e-5);
  EXPECT_LT(distance(masked.at("lse"), wanted.lse), 1e-5);
}

TEST_F(AttendTest, WrappersReport) {
  const auto result = attend(inputs(), {"--attention", "check(prefer(sdpa(cudnn),sdpa(math)),reference)"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out,
              ::testing::ContainsRegex(
                  "sdpa\\(math\\) against reference: cosine 1.000000, relative L1 [0-9.e-]+, RMSE "
                  "[0-9.e-]+, largest [0-9.e-]+\n"));
  EXPECT_EQ(result.err,
            "sagelab: sdpa(math) took the place of sdpa(cudnn): it needs a CUDA device, not cpu\n");
}

TEST_F(AttendTest, WrongKeys) {
  const std::string known =
      "; attend reads q, k and v, and where they are there q_norm.weight, k_norm.weight, rope.cos and "
      "rope.sin";
  auto t = inputs();
  t.erase("k");
  expect_failure(t, input() + ": tensor k is missing" + known);
  t = inputs();
  t["mask"] = at::ones({9, 9});
  expect_failure(t, input() + ": tensor mask is none that attend knows" + known);
  t = inputs();
  t["rope.cos"] = at::ones({9, 4});
  expect_failure(t, input() + ": rope.cos and rope.sin go together" + known);
}

TEST_F(AttendTest, WrongShapes) {
  const auto with = [](const std::string& name, const at::Tensor& value) {
    auto t = inputs();
    t[name] = value;
    return t;
  };
  expect_failure(with("q", at::ones({9, 8})),
                 input() + ": q is [9, 8]; q, k and v are [batch, tokens, heads, head dimension]");
  expect_failure(with("v", at::ones({2, 8, 2, 8})),
                 input() + ": k is [2, 9, 2, 8] and v is [2, 8, 2, 8]; they must be of one shape");
  expect_failure(
      with("q", at::ones({2, 9, 3, 8})),
      input() +
          ": q [2, 9, 3, 8] and k [2, 9, 2, 8] do not fit: batch and head dimension must be equal, and "
          "the heads of q a multiple of those of k");
  expect_failure(with("k_norm.weight", at::ones({7})),
                 input() + ": k_norm.weight is [7]; [8] expected: [head dimension]");
  auto rope = with("rope.cos", at::ones({9, 4}));
  rope["rope.sin"] = at::ones({9, 8});
  expect_failure(rope, input() + ": rope.sin is [9, 8]; [9, 4] expected: [tokens, half the head dimension]");
  auto lengths = inputs(5, 9);
  lengths["q_norm.weight"] = at::ones({8});
  expect_failure(
      lengths, input() + ": q has 5 tokens and k 9; with norm weights or RoPE tables they must be the same");
}

TEST_F(AttendTest, WrongDtypes) {
  auto t = inputs();
  t["k"] = t["k"].to(at::kInt);
  expect_failure(t, input() + ": k is I32; attend takes F64, F32, F16 and BF16");
  t = inputs();
  t["v"] = t["v"].to(at::kHalf);
  expect_failure(t, input() + ": q is F32 but v is F16; store them in one dtype, or choose one with --dtype");
  EXPECT_EQ(attended(t, {"--dtype", "bf16"}).at("out").scalar_type(), at::kBFloat16);
}

TEST_F(AttendTest, WrongUse) {
  const auto t = inputs();
  expect_failure(t, "--scale is not a finite number", 2, {"--scale", "nan"});
  expect_failure(t, "attention 'sdpa(': expected an argument, found end at position 6", 2,
                 {"--attention", "sdpa("});
  expect_failure(
      t,
      "attention 'sdpa(cudnn)' cannot run here: it needs a CUDA device, not cpu; choose another, or let it "
      "fall back: prefer(sdpa(cudnn),sdpa)",
      1, {"--attention", "sdpa(cudnn)"});
}

TEST_F(AttendTest, FilesThatAreNotThere) {
  const auto absent = (folder_ / "absent.safetensors").string();
  auto result = run_sagelab({"attend", "--input", absent, "--output", output(), "--device", "cpu"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.err,
            "sagelab: " + absent + ": no such file; give --input a safetensors file with q, k and v\n");
  write_safetensors(input(), inputs());
  const auto nowhere = (folder_ / "no" / "out.safetensors").string();
  result = run_sagelab({"attend", "--input", input(), "--output", nowhere, "--device", "cpu"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.err, "sagelab: cannot write " + nowhere + ": No such file or directory; make the folder " +
                            (folder_ / "no").string() + " first, or choose another place\n");
}

}  // namespace
}  // namespace sagelab
