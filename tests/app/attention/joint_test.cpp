// SPDX-License-Identifier: Apache-2.0
// `bench attention --joint`: what it draws, what it holds for true, what it times and what it says.
#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "app/commands/bench/attention/attention.h"
#include "attention/registry.h"
#include "tests/app/attention/candidates.h"
#include "tests/app/program.h"

namespace sagelab::bench {
namespace {

using namespace sagelab::testing;
using attention::Segment;
using ::testing::HasSubstr;

Shape shape(int64_t text, int64_t tokens = 40) {
  return {
      .batch = 2, .heads = 3, .kv_heads = 3, .tokens = tokens, .head_dim = 16, .causal = false, .text = text};
}

Settings once(std::vector<Candidate> candidates) {
  Settings s;
  s.candidates = std::move(candidates);
  s.warmup = 0;
  s.repeat = 1;
  return s;
}

TEST(BenchJointInputs, AreViewsOfOneProjectionIntoOneOutput) {
  const auto inputs = draw_inputs(shape(13), "normal", 3, on_cpu(at::kBFloat16));
  ASSERT_EQ(inputs.segments.size(), 2u);
  const auto &text = inputs.segments[0], &rest = inputs.segments[1];
  const auto* first = static_cast<const c10::BFloat16*>(text.q.const_data_ptr());
  const int64_t row = 3 * 3 * 16;
  for (const auto& s : inputs.segments) {
    const int64_t tokens = &s == &text ? 13 : 27, from = &s == &text ? 0 : 13 * row;
    EXPECT_EQ(s.q.sizes(), at::IntArrayRef({2, tokens, 3, 16}));
    EXPECT_EQ(s.q.strides(), at::IntArrayRef({40 * row, row, 16, 1}));
    EXPECT_EQ(s.q.const_data_ptr(), first + from);
    EXPECT_EQ(s.k.const_data_ptr(), first + from + 3 * 16);
    EXPECT_EQ(s.v.const_data_ptr(), first + from + 2 * 3 * 16);
    for (const auto& norm : {s.q_norm, s.k_norm}) {
      EXPECT_EQ(norm.kind, attention::Norm::Kind::Rms);
      EXPECT_EQ(norm.eps, 1e-6);
      EXPECT_EQ(norm.weight.scalar_type(), at::kBFloat16);
      const auto offset = norm.weight.to(at::kDouble) - 1;
      EXPECT_GT(offset.std().item<double>(), 0.04);
      EXPECT_LT(offset.abs().max().item<double>(), 0.5);
    }
  }
  EXPECT_FALSE(at::equal(text.q_norm.weight, rest.q_norm.weight));
  EXPECT_FALSE(at::equal(rest.q_norm.weight, rest.k_norm.weight));
  EXPECT_TRUE(text.rope.empty());
  EXPECT_EQ(rest.rope.cos.sizes(), at::IntArrayRef({27, 8}));
  const auto to = attention::destination({inputs.segments, 1, {}});
  ASSERT_TRUE(to.defined());
  EXPECT_EQ(to.const_data_ptr(), inputs.out.const_data_ptr());
  EXPECT_EQ(to.sizes(), at::IntArrayRef({2, 40, 3, 16}));
  EXPECT_DOUBLE_EQ(inputs.call.scale, 0.25);
}

TEST(BenchJointInputs, OneKindOfTokensIsOneSegment) {
  for (const int64_t text : {0, 40}) {
    const auto inputs = draw_inputs(shape(text), "normal", 3, on_cpu());
    ASSERT_EQ(inputs.segments.size(), 1u);
    EXPECT_EQ(inputs.segments[0].k.size(1), 40);
    EXPECT_EQ(inputs.segments[0].rope.empty(), text == 40);
    const auto result = measure(shape(text), once({named("sdpa(math)")})).rows.front();
    EXPECT_EQ(result.reason, "");
    EXPECT_LT(result.errors.relative_l1, 1e-5);
  }
}

TEST(BenchJointInputs, ComeFromTheSeedAndTheDistribution) {
  const auto k = [](const char* distribution, uint64_t seed) {
    return draw_inputs(shape(13), distribution, seed, on_cpu()).segments.at(1).k;
  };
  for (const auto& [name, help] : distributions()) {
    const auto a = draw_inputs(shape(13), name, 7, on_cpu()), b = draw_inputs(shape(13), name, 7, on_cpu()),
               c = draw_inputs(shape(13), name, 8, on_cpu());
    for (size_t i = 0; i < 2; ++i) {
      const auto &x = a.segments[i], &y = b.segments[i], &z = c.segments[i];
      EXPECT_TRUE(at::equal(x.q, y.q) && at::equal(x.k, y.k) && at::equal(x.v, y.v)) << name;
      EXPECT_TRUE(at::equal(x.q_norm.weight, y.q_norm.weight)) << name;
      EXPECT_FALSE(at::equal(x.k, z.k) || at::equal(x.q_norm.weight, z.q_norm.weight)) << name;
    }
  }
  EXPECT_GT(k("outliers", 7).mean(1).std().item<double>(), 4);
  EXPECT_LT(k("normal", 7).mean(1).std().item<double>(), 1);
  // Norm and RoPE belong to the call: they are not applied twice.
  EXPECT_TRUE(at::equal(k("normed-rotated", 7), k("outliers", 7)));
}

// A row of q or k of a segment by hand: RMS norm, then each pair of channels turned by its angle.
std::vector<double> row_by_hand(const at::Tensor& x, const attention::Norm& norm, const attention::Rope& rope,
                                int64_t row) {
  const auto dim = x.size(2);
  const auto number = [](const at::Tensor& t, std::initializer_list<int64_t> index) {
    auto value = t;
    for (const auto i : index) value = value[i];
    return value.item<double>();
  };
  std::vector<double> y;
  double squares = 0;
  for (int64_t d = 0; d < dim; ++d) squares += std::pow(number(x, {row, 0, d}), 2);
  for (int64_t d = 0; d < dim; ++d)
    y.push_back(number(x, {row, 0, d}) / std::sqrt(squares / double(dim) + 1e-6) * number(norm.weight, {d}));
  for (int64_t j = 0; j < dim / 2 && !rope.empty(); ++j) {
    const double angle = std::atan2(number(rope.sin, {row, j}), number(rope.cos, {row, j}));
    double &even = y[size_t(2 * j)], &odd = y[size_t(2 * j + 1)];
    const double length = std::hypot(even, odd), turned = std::atan2(odd, even) + angle;
    even = length * std::cos(turned), odd = length * std::sin(turned);
  }
  return y;
}

// The last head of the last sample: token by token, number by number.
std::vector<double> attention_by_hand(const Inputs& inputs, int64_t token) {
  std::vector<std::vector<double>> q, k, v;
  for (const auto& s : inputs.segments) {
    const auto head = [](const at::Tensor& x) { return x[x.size(0) - 1].narrow(1, x.size(2) - 1, 1); };
    for (int64_t row = 0; row < s.k.size(1); ++row) {
      q.push_back(row_by_hand(head(s.q), s.q_norm, s.rope, row));
      k.push_back(row_by_hand(head(s.k), s.k_norm, s.rope, row));
      const auto values = head(s.v)[row][0].to(at::kDouble).contiguous();
      v.emplace_back(values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel());
    }
  }
  std::vector<double> out(v.front().size(), 0);
  double sum = 0;
  for (size_t j = 0; j < k.size(); ++j) {
    double score = 0;
    for (size_t d = 0; d < out.size(); ++d) score += q[size_t(token)][d] * k[j][d] * 0.25;
    sum += std::exp(score);
    for (size_t d = 0; d < out.size(); ++d) out[d] += std::exp(score) * v[j][d];
  }
  for (auto& value : out) value /= sum;
  return out;
}

TEST(BenchJointTruth, IsWhatAPersonComputes) {
  const auto inputs = draw_inputs(shape(5, 12), "normal", 4, on_cpu());
  const auto rows = at::tensor({1, 9}, at::kLong);
  const auto exact = exact_rows(inputs, rows);
  ASSERT_EQ(exact.sizes(), at::IntArrayRef({2, 2, 3, 16}));
  for (const int64_t i : {0, 1}) {
    const auto by_hand = attention_by_hand(inputs, rows[i].item<int64_t>());
    for (int64_t d = 0; d < 16; ++d)
      EXPECT_NEAR(exact[1][i][2][d].item<double>(), by_hand[size_t(d)], 1e-6) << "row " << i;
  }
}

// Serves a joint call with something wrong in it.
class Mistaken final : public attention::Backend {
 public:
  using Change = void (*)(std::vector<Segment>&);
  explicit Mistaken(Change change) : change_(change) {}
  std::string name() const override { return "mistaken"; }
  std::string unsupported(const attention::Problem&) const override { return {}; }
  attention::Output run(const attention::Call&, attention::Recorder&) const override { return {}; }
  void run_joint(const attention::JointCall& call, attention::Recorder& recorder) const override {
    std::vector<Segment> segments(call.segments.begin(), call.segments.end());
    change_(segments);
    attention::make_backend("sdpa(math)")->run_joint({segments, call.scale, call.site}, recorder);
  }

 private:
  Change change_;
};

TEST(BenchJointErrors, AreThoseOfNormAndRopeToo) {
  const auto wrong = [](Mistaken::Change change) {
    return Candidate{"mistaken", std::make_shared<Mistaken>(change)};
  };
  const auto result = measure(
      shape(13), once({wrong([](auto&) {}), wrong([](auto& s) { s[0].q_norm.weight.reset(); }),
                       wrong([](auto& s) { s[1].k_norm = {}; }), wrong([](auto& s) { s[1].rope = {}; }),
                       wrong([](auto& s) { s[1].rope.sin = s[1].rope.sin.neg(); }),
                       wrong([](auto& s) { std::swap(s[0].k_norm, s[1].k_norm); }), wrong([](auto& s) {
                         s[0].rope = {s[1].rope.cos.narrow(0, 0, 13), s[1].rope.sin.narrow(0, 0, 13), {}, {}};
                       }),
                       wrong([](auto& s) {  // the text is not there
                         s[0].out.zero_(), s.erase(s.begin());
                       })}));
  ASSERT_EQ(result.rows.size(), 8u);
  EXPECT_LT(result.rows[0].errors.relative_l1, 1e-5);
  for (size_t i = 1; i < result.rows.size(); ++i) EXPECT_GT(result.rows[i].errors.relative_l1, 1e-2) << i;
}

TEST(BenchJointErrors, OfBackendsInTheirRange) {
  auto s = once({named("sdpa(math)"), named("reference"), named("unfused(sdpa(math))"), named("sage2"),
                 named("unfused(sage2)")});
  auto larger = shape(70, 300);
  larger.head_dim = 64, larger.batch = 1;
  for (const auto& [distribution, most] : {std::pair{"normal", .08}, {"outliers", .08}, {"biased-v", .02}}) {
    s.distribution = distribution;
    const auto rows = measure(larger, s).rows;
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(rows[i].reason, "");
      EXPECT_LT(rows[i].errors.relative_l1, 2e-6) << distribution << " " << rows[i].spec;
    }
    for (size_t i = 3; i < 5; ++i) {
      EXPECT_GT(rows[i].errors.relative_l1, 1e-4) << distribution << " " << rows[i].spec;
      EXPECT_LT(rows[i].errors.relative_l1, most) << distribution << " " << rows[i].spec;
    }
    EXPECT_EQ(rows[4].served, "sage2");
  }
}

// Logs what is asked of it; its kernel is to get what attention sees of the joint call.
class Logging final : public attention::Backend {
 public:
  explicit Logging(bool writes) : writes_(writes) {}
  std::string name() const override { return "logging"; }
  std::string unsupported(const attention::Problem&) const override { return {}; }
  attention::Output run(const attention::Call& call, attention::Recorder&) const override {
    log += "r";
    return {call.q, {}};
  }
  void run_joint(const attention::JointCall& call, attention::Recorder& recorder) const override {
    log += "j";
    if (writes_) attention::make_backend("reference")->run_joint(call, recorder);
  }
  std::function<void()> prepared(const attention::Call& call) const override {
    operands.push_back(call);
    return [this] { log += "k"; };
  }
  mutable std::string log;
  mutable std::vector<attention::Call> operands;

 private:
  bool writes_;
};

TEST(BenchJoint, TimesTheJointCallAndTheKernelOfWhatItGathers) {
  const auto backend = std::make_shared<Logging>(true);
  auto s = once({{"logging", backend}});
  s.repeat = 2;
  const auto result = measure(shape(13), s);
  EXPECT_EQ(backend->log, "jjkkjkjk");  // a look, an estimate of both (the kernel is warm then), two turns
  ASSERT_EQ(backend->operands.size(), 1u);
  const auto inputs = draw_inputs(shape(13), s.distribution, s.seed, on_cpu());
  const auto gathered = attention::gather_reference({inputs.segments, inputs.call.scale, {}});
  const auto& operands = backend->operands.front();
  EXPECT_TRUE(at::equal(operands.q, gathered.q));
  EXPECT_TRUE(at::equal(operands.k, gathered.k));
  EXPECT_TRUE(at::equal(operands.v, gathered.v));
  EXPECT_EQ(operands.scale, 0.25);
  EXPECT_TRUE(result.rows[0].run && result.rows[0].kernel);
}

// All backends write into one output: what one leaves there is not the next one's.
TEST(BenchJoint, WhoWritesNothingFails) {
  const auto result =
      measure(shape(13), once({named("sdpa"), {"logging", std::make_shared<Logging>(false)}}));
  EXPECT_EQ(result.rows[0].reason, "");
  EXPECT_EQ(result.rows[1].reason, "the output holds values that are not finite");
  EXPECT_TRUE(result.rows[1].failed);
}

Result made_up() {
  Result result{shape(512, 4608), 1, {}};
  const Timing fast{1e-3, 1e-3, 1e-3, 5}, slow{2e-3, 2e-3, 2e-3, 5};
  result.rows = {{"sdpa(cudnn)", "sdpa(cudnn)", "", false, slow, {}, {}},
                 {"sage2", "sage2", "", false, fast, fast, {}}};
  return result;
}

TEST(BenchJointReport, SaysWhatIsIncluded) {
  const auto s = once({{"sdpa(cudnn)", {}}, {"sage2", {}}});
  const Title title{"a GPU", "bf16", true};
  const std::string heading =
      "attention with norm, RoPE and concatenation on a GPU, bf16, normal inputs (seed 0)";
  EXPECT_THAT(heading_of(title, s), ::testing::StartsWith(heading + "\nend to end: a joint call, with norm"));
  EXPECT_THAT(heading_of(title, s), HasSubstr("errors: against fp64, of norm and RoPE too, on up to"));
  EXPECT_THAT(plot_of(title, s, {made_up()}), HasSubstr(heading));
  EXPECT_EQ(heading_of({"a GPU", "bf16"}, s).find("RoPE"), std::string::npos);
  EXPECT_THAT(table_of(s, made_up()), HasSubstr("\n4608 tokens, 512 of them text, head dim 16, batch 2, "));
}

TEST(BenchJointReport, JsonHasTheTextAndComparesJointCallsAlone) {
  const auto s = once({{"sdpa(cudnn)", {}}, {"sage2", {}}});
  auto plain = made_up();
  plain.shape.text.reset();
  const auto shapes = to_json({"a GPU", "bf16", true}, s, {made_up(), plain}).at("shapes");
  EXPECT_EQ(shapes.at(0).at("joint"), (nlohmann::json{{"text", 512}}));
  EXPECT_TRUE(shapes.at(1).at("joint").is_null());
  const auto ratio = [&](size_t shape, const char* part) {
    return shapes.at(shape).at("backends").at(1).at(part).at("times_as_fast_as");
  };
  EXPECT_EQ(ratio(0, "end_to_end").at("sdpa(cudnn)"), 2);
  EXPECT_EQ(ratio(1, "kernel").at("sdpa(cudnn)"), 2);
  EXPECT_TRUE(ratio(0, "kernel").is_object() && ratio(0, "kernel").empty());
}

ProgramResult bench(std::vector<std::string> flags) {
  flags.insert(flags.begin(), {"bench", "attention", "--device", "cpu", "--heads", "2", "--repeat", "1",
                               "--head-dim", "16", "--backends", "sdpa(math)", "unfused(sdpa(math))"});
  return run_sagelab(flags);
}

TEST(BenchJointCommand, TableAndJson) {
  const TempFolder folder;
  const auto file = (folder / "b.json").string();
  const auto texts = [&](std::vector<std::string> flags) {
    flags.insert(flags.end(), {"--json", file});
    const auto result = bench(flags);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    const auto json = nlohmann::json::parse(read_file(file));
    std::vector<int64_t> all;
    for (const auto& s : json.at("shapes")) {
      all.push_back(s.at("joint").at("text"));
      for (const auto& row : s.at("backends")) {
        EXPECT_LT(row.at("errors").at("relative_l1"), 1e-5);
        EXPECT_EQ(row.at("served"), "sdpa(math)");
      }
    }
    EXPECT_THAT(result.out, HasSubstr("\nunfused(sdpa(math)) "));
    EXPECT_THAT(result.out, ::testing::StartsWith("attention with norm, RoPE and concatenation on "));
    return all;
  };
  EXPECT_EQ(texts({"--seq", "20", "40", "600", "--joint"}), (std::vector<int64_t>{10, 20, 256}));
  EXPECT_EQ(texts({"--seq", "20", "40", "--joint", "--text", "20"}), (std::vector<int64_t>{20, 20}));
  EXPECT_EQ(texts({"--seq", "20", "--joint", "--text", "0"}), (std::vector<int64_t>{0}));
}

TEST(BenchJointCommand, WrongUse) {
  const auto expect_usage = [](const std::vector<std::string>& flags, const std::string& message) {
    const auto result = bench(flags);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_EQ(result.err, "sagelab: " + message + "\n");
    EXPECT_EQ(result.out, "");
  };
  expect_usage(
      {"--joint", "--kv-heads", "1"},
      "joint calls have as many heads of k and v as of q, not 1 for 2; leave out --joint or --kv-heads");
  expect_usage({"--joint", "--causal"}, "joint calls have no causal mask; leave out --joint or --causal");
  expect_usage({"--joint", "--seq", "40", "20", "--text", "21"},
               "21 tokens of text are more than the 20 of --seq; choose --text from 0 to 20");
  expect_usage({"--text", "4"}, "--text is of joint calls; add --joint");
  expect_usage({"--joint", "--head-dim", "15"}, "RoPE turns pairs, and 15 is odd; choose an even --head-dim");
  EXPECT_EQ(bench({"--joint", "--text", "-1"}).exit_code, 2);
}

}  // namespace
}  // namespace sagelab::bench
