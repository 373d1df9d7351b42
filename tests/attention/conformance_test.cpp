// SPDX-License-Identifier: Apache-2.0
// Every entry of backends(), run and run_joint, against the fp64 reference, on every device of this machine.
// What a backend refuses it must refuse by its own reason; a binary without a GPU skips that half.
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <tuple>

#include "attention/error.h"
#include "attention/joint.h"
#include "attention/recorder.h"
#include "attention/registry.h"
#include "tests/attention/exact.h"

namespace sagelab::attention::test {
namespace {

enum class Device { Cpu, Cuda };
using Parameter = std::tuple<Entry, Device, at::ScalarType>;

// Largest error over the bound seen by each test, printed at the end.
class Table : public testing::Environment {
 public:
  static void add(const std::string& row, double error, double bound) {
    auto& [worst, limit] = rows()[row];
    worst = std::max(worst, error);
    limit = bound;
  }
  void TearDown() override {
    for (const auto& [row, figures] : rows()) {
      printf("%-52s largest error %.2e, bound %.2e\n", row.c_str(), figures.first, figures.second);
    }
  }

 private:
  static std::map<std::string, std::pair<double, double>>& rows() {
    static std::map<std::string, std::pair<double, double>> rows;
    return rows;
  }
};
const auto* const kTable = testing::AddGlobalTestEnvironment(new Table);

enum class Layout { Dense, Fused, OddRows, HeadsFirst };

// The same values [B, S, H, D] in another place: columns of a fused buffer, rows of an odd pitch, or heads
// first.
at::Tensor laid_out(const at::Tensor& x, Layout layout) {
  const int64_t b = x.size(0), s = x.size(1), h = x.size(2), d = x.size(3);
  at::Tensor view;
  switch (layout) {
    case Layout::Dense:
      return x;
    case Layout::Fused:
      view = at::zeros({b, s, 3, h, d}, x.options()).select(2, 1);
      break;
    case Layout::OddRows:
      view = at::zeros({b, s, h * d + 3}, x.options()).narrow(2, 1, h * d).unflatten(2, {h, d});
      break;
    case Layout::HeadsFirst:
      view = at::zeros({b, h, s, d}, x.options()).transpose(1, 2);
      break;
  }
  return view.copy_(x);
}

struct Shape {
  int64_t q_len, kv_len;
  int64_t head_dim = 64, heads = 4, kv_heads = 4, batch = 2;
  bool causal = false;
  double size = 1;
  Layout layout = Layout::Dense;
};

std::string describe(const Shape& s) {
  return fmt::format("q {} kv {} D {} heads {}/{} batch {} causal {} size {} layout {}", s.q_len, s.kv_len,
                     s.head_dim, s.heads, s.kv_heads, s.batch, s.causal, s.size, static_cast<int>(s.layout));
}

std::vector<Shape> shapes() {
  std::vector<Shape> all;
  for (const int64_t d : {64, 128}) {
    for (const int64_t n : {1, 62, 125, 287, 1000}) all.push_back({n, n, d});
    for (const auto& [q, kv] : {std::pair{62, 287}, {287, 125}, {1, 1000}, {1000, 1}, {125, 2}})
      all.push_back({q, kv, d});
    for (const int64_t n : {62, 125, 287}) all.push_back({n, n, d, 4, 4, 2, true});
    for (const auto& [q, kv] : {std::pair{62, 125}, {125, 62}}) all.push_back({q, kv, d, 4, 4, 2, true});
    for (const int64_t kv_heads : {1, 2}) all.push_back({125, 287, d, 4, kv_heads});
    all.push_back({1, 287, d, 4, 2});
    all.push_back({125, 1, d, 4, 2});
    all.push_back({287, 287, d, 6, 2, 1, true});
    for (const Layout layout : {Layout::Fused, Layout::OddRows, Layout::HeadsFirst}) {
      all.push_back({125, 62, d, 4, 4, 2, false, 1, layout});
      all.push_back({287, 287, d, 4, 2, 1, true, 1, layout});
    }
    all.push_back({287, 287, d, 4, 4, 2, false, 6});
  }
  for (const auto& [q, kv] : {std::pair{0, 125}, {125, 0}, {0, 0}}) all.push_back({q, kv});
  for (const int64_t d : {16, 20, 40, 96, 256}) all.push_back({62, 125, d});
  return all;
}

void PrintTo(const Device& device, std::ostream* out) {
  *out << (device == Device::Cpu ? "cpu" : "cuda");
}

class Conformance : public testing::TestWithParam<Parameter> {
 protected:
  void SetUp() override {
    if (std::get<1>(GetParam()) == Device::Cuda && !at::hasCUDA()) GTEST_SKIP() << "there is no CUDA device";
    backend_ = make_backend(entry().spec);
  }
  const Entry& entry() const { return std::get<0>(GetParam()); }
  at::Device device() const {
    return std::get<1>(GetParam()) == Device::Cpu ? at::kCPU : at::Device(at::kCUDA, 0);
  }
  at::ScalarType dtype() const { return std::get<2>(GetParam()); }
  double bound() const {
    return dtype() == at::kFloat  ? entry().bound_fp32
           : dtype() == at::kHalf ? entry().bound_fp16
                                  : entry().bound_bf16;
  }
  std::string case_of(const std::string& what) const {
    return fmt::format("{} {} {}", device().str(), name_of(dtype()), what);
  }
  std::string row(const char* what) const { return fmt::format("{} {}", entry().spec, case_of(what)); }
  // Whether the backend takes the problem; where not, that it says so when it is called all the same.
  bool taken(const Call& call) {
    const std::string reason = backend_->unsupported(problem_of(call));
    if (reason.empty()) return ++taken_ > 0;
    reason_ = reason;
    Recorder recorder;
    try {
      backend_->run(call, recorder);
      ADD_FAILURE() << "ran what it calls unsupported: " << reason;
    } catch (const Error& e) {
      EXPECT_EQ(std::string(e.what()),
                fmt::format("attention '{}' cannot run here: {}", backend_->name(), reason));
    }
    EXPECT_TRUE(recorder.served().empty());
    return false;
  }
  void skip_if_none_taken() {
    if (taken_ == 0) GTEST_SKIP() << entry().spec << ": " << reason_;
  }
  void expect_served(const Recorder& recorder) const {
    ASSERT_EQ(recorder.served().size(), 1u);
    const auto [name, served] = *recorder.served().begin();
    EXPECT_EQ(served.calls, 1);
    // A plain name may stand for one of its kernels; it never stands for another backend.
    EXPECT_EQ(name.rfind(entry().spec, 0), 0u) << name;
    EXPECT_TRUE(recorder.fallbacks().empty());
  }
  BackendPtr backend_;
  int taken_ = 0;
  std::string reason_;
};

Call call_of(const Shape& s, at::ScalarType dtype, at::Device device) {
  const auto make = [&](int64_t len, int64_t heads, uint64_t seed, double size) {
    return laid_out(normal({s.batch, len, heads, s.head_dim}, seed, dtype, device, size), s.layout);
  };
  Call call;
  call.q = make(s.q_len, s.heads, 11, s.size);
  call.k = make(s.kv_len, s.kv_heads, 12, s.size);
  call.v = make(s.kv_len, s.kv_heads, 13, s.size);
  call.scale = 1 / std::sqrt(static_cast<double>(s.head_dim));
  call.causal = s.causal;
  return call;
}

Output truth_of(const Call& call) {
  Call wide = call;
  for (at::Tensor* t : {&wide.q, &wide.k, &wide.v}) *t = t->to(at::kDouble);
  wide.out.reset();
  wide.want_lse = true;
  Recorder recorder;
  return make_backend("reference")->run(wide, recorder);
}

// The same for every backend, and most of what the test would take: made once for each case.
const Output& known_truth(const std::string& of, const std::function<Output()>& make) {
  static std::map<std::string, Output> known;
  const auto found = known.find(of);
  return found != known.end() ? found->second : known.emplace(of, make()).first->second;
}

// Freed memory that the next output is likely to be made of holds NaN.
void poison_allocator(const Call& call) {
  for (int i = 0; i < 3; ++i)
    at::full(call.q.sizes(), std::numeric_limits<double>::quiet_NaN(), call.q.options());
}

// Returns the largest error.
double expect_lse(const at::Tensor& actual, const at::Tensor& expected, double bound) {
  const bool fits =
      actual.defined() && actual.sizes() == expected.sizes() && actual.scalar_type() == at::kFloat;
  EXPECT_TRUE(fits);
  if (!fits) return std::numeric_limits<double>::infinity();
  const at::Tensor a = actual.to(at::kCPU).to(at::kDouble), e = expected.to(at::kCPU).to(at::kDouble);
  EXPECT_TRUE(at::allclose(a, e, 1e-5, bound));
  const at::Tensor error = (a - e).abs().nan_to_num(0);  // both -inf
  return error.numel() == 0 ? 0 : error.max().item<double>();
}

TEST_P(Conformance, Run) {
  for (const Shape& shape : shapes()) {
    SCOPED_TRACE(describe(shape));
    Call call = call_of(shape, dtype(), device());
    if (!taken(call)) continue;
    const Output& truth = known_truth(case_of(describe(shape)), [&] { return truth_of(call); });
    // Large scores carry their own fp32 rounding into the exponent; half precision rounds more than that
    // anyway. Quantized ones are off by so much more.
    const bool large = shape.size > 1, quantized = entry().large_values > 1;
    const double rounding = quantized ? entry().large_values : dtype() == at::kFloat ? 4 : 1;
    const double limit = bound() * (large ? rounding : 1);
    const double lse_limit = entry().bound_lse * (large && quantized ? shape.size * shape.size : 1);
    for (const bool want_lse : {false, true}) {
      call.want_lse = want_lse;
      Recorder recorder;
      poison_allocator(call);
      const Output result = backend_->run(call, recorder);
      const double error = relative_error(result.out, truth.out);
      EXPECT_LE(error, limit);
      EXPECT_EQ(result.out.scalar_type(), dtype());
      EXPECT_EQ(result.out.stride(3), 1);
      expect_served(recorder);
      Table::add(row(large ? "run, large values" : "run"), error, limit);
      if (want_lse) {
        const double lse_error = expect_lse(result.lse, truth.lse, lse_limit);
        Table::add(row(large ? "lse, large values" : "lse"), lse_error, lse_limit);
      } else {
        EXPECT_FALSE(result.lse.defined());
      }
    }
  }
  skip_if_none_taken();
}

TEST_P(Conformance, RunIntoADestination) {
  Call call = call_of({125, 287}, dtype(), device());
  if (!taken(call)) return skip_if_none_taken();
  const Output truth = truth_of(call);
  const at::Tensor buffer =
      at::full({2, 125, 4 * 64 + 8}, std::numeric_limits<double>::quiet_NaN(), call.q.options());
  call.out = buffer.narrow(2, 0, 4 * 64).unflatten(2, {4, 64});
  Recorder recorder;
  EXPECT_LE(relative_error(backend_->run(call, recorder).out, truth.out), bound());
  EXPECT_TRUE(buffer.narrow(2, 4 * 64, 8).isnan().all().item<bool>());
}

// Twice the same call, the same bits.
TEST_P(Conformance, Deterministic) {
  const Call call = call_of({287, 287, 128}, dtype(), device());
  if (!taken(call)) return skip_if_none_taken();
  Recorder recorder;
  const at::Tensor once = backend_->run(call, recorder).out.clone();
  EXPECT_TRUE(once.equal(backend_->run(call, recorder).out));
}

std::vector<JointShape> joint_shapes(at::ScalarType dtype, at::Device device) {
  std::vector<JointShape> all;
  const auto add = [&](std::vector<int64_t> lengths, std::vector<bool> queries, auto change) {
    JointShape s;
    s.lengths = std::move(lengths);
    s.queries = std::move(queries);
    s.dtype = dtype;
    s.device = device;
    change(s);
    all.push_back(s);
  };
  const auto as_is = [](JointShape&) {};
  for (const int64_t n : {1, 62, 125, 287, 1000}) add({n}, {true}, as_is);
  add({62, 287}, {true, true}, as_is);
  add({226, 125}, {true, true}, [](JointShape& s) { s.norm = Norm::Kind::Rms; });
  add({62, 287}, {false, true}, [](JointShape& s) { s.head_dim = 128, s.rope = RopeForm::Positions; });
  add({0, 125}, {true, true}, [](JointShape& s) { s.rope = RopeForm::None; });
  add({125, 0}, {false, true}, as_is);
  add({33, 1, 92}, {true, false, true}, [](JointShape& s) { s.kv_heads = 2, s.batch = 1; });
  add({125, 62}, {true, true}, [](JointShape& s) { s.norm = Norm::Kind::None, s.rope = RopeForm::None; });
  add({125}, {true},
      [](JointShape& s) { s.norm = Norm::Kind::None, s.rope = RopeForm::None, s.head_dim = 128; });
  add({62, 125}, {true, true}, [](JointShape& s) { s.input_scale = 8, s.wide_out = false; });
  return all;
}

TEST_P(Conformance, RunJoint) {
  int nth = 0;
  for (const JointShape& shape : joint_shapes(dtype(), device())) {
    ++nth;
    JointCase joint(shape);
    SCOPED_TRACE(testing::Message() << "lengths " << at::IntArrayRef(shape.lengths) << " D "
                                    << shape.head_dim);
    const ExactGathered exact = exact_gather(joint.call());
    // Queries and keys are rounded once, so the truth rounds them too.
    Call prepared{exact.q.to(dtype()).to(device()),
                  exact.k.to(dtype()).to(device()),
                  exact.v.to(dtype()).to(device()),
                  joint.scale,
                  false,
                  false,
                  {},
                  false,
                  {}};
    if (!taken(prepared)) continue;
    Recorder recorder;
    {
      const c10::InferenceMode inference;  // as a run holds it
      backend_->run_joint(joint.call(), recorder);
    }
    const Output& truth =
        known_truth(case_of(fmt::format("joint {}", nth)), [&] { return truth_of(prepared); });
    const double error = relative_error(joint.outs(), truth.out);
    // fp32 norm and RoPE round by themselves; half precision may fall on the other side of a rounding
    // boundary.
    const double limit = bound() * 1.5 + (dtype() == at::kFloat ? 5e-7 : 0);
    EXPECT_LE(error, limit);
    EXPECT_TRUE(joint.surroundings_untouched());
    expect_served(recorder);
    const bool fused = recorder.served().begin()->second.fused == 1;
    EXPECT_TRUE(shape.norm == Norm::Kind::None || fused == device().is_cuda());
    Table::add(row("run_joint"), error, limit);
  }
  skip_if_none_taken();
}

std::vector<Entry> entries() {
  return {backends().begin(), backends().end()};
}

std::string test_name(const testing::TestParamInfo<Parameter>& info) {
  std::string name =
      fmt::format("{}_{}_{}", std::get<0>(info.param).spec,
                  std::get<1>(info.param) == Device::Cpu ? "cpu" : "cuda", name_of(std::get<2>(info.param)));
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !isalnum(static_cast<unsigned char>(c)); }, '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Every, Conformance,
                         testing::Combine(testing::ValuesIn(entries()),
                                          testing::Values(Device::Cpu, Device::Cuda),
                                          testing::Values(at::kFloat, at::kBFloat16, at::kHalf)),
                         test_name);

// The reference itself against plain loops.
TEST(Reference, IsTheDefinition) {
  for (const bool causal : {false, true}) {
    for (const auto& [q_len, kv_len] : {std::pair{1, 1}, {17, 17}, {9, 40}, {40, 9}, {3, 0}}) {
      Call call = call_of({q_len, kv_len, 64, 6, 2, 2, causal}, at::kDouble, at::kCPU);
      const Exact exact = exact_attention(call.q, call.k, call.v, call.scale, causal);
      const Output truth = truth_of(call);
      EXPECT_LT(relative_error(truth.out, exact.out), 1e-12);
      expect_lse(truth.lse, exact.lse, 1e-4);
    }
  }
}

// Chunking over rows changes nothing: 48 heads of 5,000 keys take 139 rows at a time.
TEST(Reference, ChunksAreInvisible) {
  Call call = call_of({160, 5000, 16, 48, 48, 1, true}, at::kDouble, at::kCPU);
  const Output whole = truth_of(call);
  call.q = call.q.narrow(1, 130, 30);
  EXPECT_LT(relative_error(truth_of(call).out, whole.out.narrow(1, 130, 30)), 1e-13);
}

}  // namespace
}  // namespace sagelab::attention::test
