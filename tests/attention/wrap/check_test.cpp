// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "attention/registry.h"
#include "attention/wrap/check.h"
#include "tests/attention/wrap/fake.h"

namespace sagelab::attention::test {
namespace {

TEST(Check, MeasuresOnlyTheChosenRowsAndLeavesTheOutputAlone) {
  const auto sample = fake("sample");
  const Check check(make_backend("sdpa(math)"), sample, 8, 3);
  const Call call = plain_call();
  Recorder alone, recorder;
  const at::Tensor expected = make_backend("sdpa(math)")->run(call, alone).out;
  const Output output = check.run(call, recorder);
  EXPECT_TRUE(output.out.equal(expected));
  EXPECT_EQ(recorder.served().size(), 1u);
  ASSERT_EQ(sample->seen.size(), 1u);
  EXPECT_EQ(sample->seen[0].q.size(1), 8);
  EXPECT_EQ(sample->seen[0].k.size(1), 40);
  // Every row that b saw is a row of q, in order, and none twice.
  std::set<int64_t> rows;
  for (int64_t i = 0; i < 8; ++i) {
    const at::Tensor same = (call.q == sample->seen[0].q.narrow(1, i, 1)).all(3).all(2).squeeze(0);
    ASSERT_EQ(same.sum().item<int64_t>(), 1);
    rows.insert(same.to(at::kInt).argmax().item<int64_t>());
  }
  EXPECT_EQ(rows.size(), 8u);
  ASSERT_EQ(recorder.measurements().size(), 1u);
  EXPECT_EQ(recorder.measurements()[0].a, "sdpa(math)");
  EXPECT_EQ(recorder.measurements()[0].b, "sample");
}

TEST(Check, RowsDependOnSeedAndSite) {
  const auto rows_seen = [](uint64_t seed, const Site& where) {
    const auto sample = fake("sample");
    Recorder recorder;
    Call call = plain_call();
    call.site = where;
    Check(fake("a"), sample, 8, seed).run(call, recorder);
    return sample->seen[0].q;
  };
  const at::Tensor first = rows_seen(1, site(0, 0));
  EXPECT_TRUE(first.equal(rows_seen(1, site(0, 0))));
  EXPECT_FALSE(first.equal(rows_seen(2, site(0, 0))));
  EXPECT_FALSE(first.equal(rows_seen(1, site(1, 0))));
  EXPECT_FALSE(first.equal(rows_seen(1, site(0, 1))));
}

TEST(Check, FiguresAreTheDefinition) {
  const at::Tensor a = normal({5, 7}, 1, at::kDouble, at::kCPU), b = normal({5, 7}, 2, at::kDouble, at::kCPU);
  double ab = 0, aa = 0, bb = 0, distance = 0, size = 0, square = 0, most = 0;
  for (int64_t i = 0; i < 35; ++i) {
    const double x = a.const_data_ptr<double>()[i], y = b.const_data_ptr<double>()[i];
    ab += x * y, aa += x * x, bb += y * y, distance += std::abs(x - y), size += std::abs(y);
    square += (x - y) * (x - y), most = std::max(most, std::abs(x - y));
  }
  const Errors e = errors_from(error_figures(a, b));
  EXPECT_NEAR(e.cosine, ab / std::sqrt(aa * bb), 1e-12);
  EXPECT_NEAR(e.relative_l1, distance / size, 1e-12);
  EXPECT_NEAR(e.rmse, std::sqrt(square / 35), 1e-12);
  EXPECT_NEAR(e.max_abs, most, 1e-12);

  const Errors none = errors_from(error_figures(a, a));
  EXPECT_NEAR(none.cosine, 1, 1e-14);
  EXPECT_EQ(none.relative_l1, 0);
  EXPECT_EQ(none.max_abs, 0);
  const Errors broken = errors_from(error_figures(at::full_like(a, NAN), b));
  EXPECT_TRUE(std::isnan(broken.cosine) && std::isnan(broken.relative_l1) && std::isnan(broken.max_abs));
  const Errors empty = errors_from(error_figures(a.narrow(0, 0, 0), b.narrow(0, 0, 0)));
  EXPECT_EQ(empty.cosine, 1);
  EXPECT_EQ(empty.max_abs, 0);
}

TEST(Check, JointCallsOnEveryDevice) {
  for (const at::Device& device : devices()) {
    for (const char* spec :
         {"check(sdpa,reference,rows=16)", "check(sdpa,reference,rows=all)", "check(sdpa,reference)"}) {
      SCOPED_TRACE(fmt::format("{} {}", spec, device.str()));
      JointShape shape;
      shape.device = device;
      shape.lengths = {30, 60, 5};
      shape.queries = {true, true, false};
      JointCase joint(shape), alone(shape);
      Recorder recorder, other;
      make_backend("sdpa")->run_joint(alone.call(), other);
      JointCall call = joint.call();
      call.site = site(3, 4);
      make_backend(spec)->run_joint(call, recorder);
      EXPECT_TRUE(joint.outs().equal(alone.outs()));
      EXPECT_TRUE(joint.surroundings_untouched());
      recorder.collect();
      ASSERT_EQ(recorder.measurements().size(), 1u);
      const Measurement m = recorder.measurements()[0];
      EXPECT_EQ(m.a, recorder.last_served());
      EXPECT_EQ(m.b, "reference");
      EXPECT_EQ(m.site.layer, 4);
      EXPECT_NEAR(m.errors.cosine, 1, 1e-6);
      EXPECT_LT(m.errors.relative_l1, 1e-5);
      EXPECT_LT(m.errors.max_abs, 1e-4);
      EXPECT_LE(m.errors.rmse, m.errors.max_abs);
    }
  }
}

TEST(Check, ADifferenceShows) {
  Recorder recorder;
  const Call call = plain_call();
  Check(fake("two", 2), fake("one", 1), Check::kAllRows, 0).run(call, recorder);
  ASSERT_EQ(recorder.measurements().size(), 1u);
  const Errors e = recorder.measurements()[0].errors;
  EXPECT_NEAR(e.cosine, 1, 1e-12);
  EXPECT_EQ(e.relative_l1, 1);
  EXPECT_EQ(e.rmse, 1);
  EXPECT_EQ(e.max_abs, 1);
}

TEST(Check, CausalRowsKeepTheirPlace) {
  Recorder recorder;
  Call call = plain_call();
  call.causal = true;
  make_backend("check(sdpa(math),reference,rows=4)")->run(call, recorder);
  EXPECT_LT(recorder.measurements().at(0).errors.max_abs, 1e-5);
}

// b runs every row; the figures are of the chosen ones.
TEST(Check, CausalFiguresAreOfTheChosenRows) {
  Call call = plain_call();
  call.causal = true;
  const auto errors = [&](int64_t rows) {
    const auto b = fake("b", 0);
    Recorder recorder;
    Check(make_backend("sdpa(math)"), b, rows, 3).run(call, recorder);
    EXPECT_EQ(b->seen.at(0).q.size(1), 40);
    return recorder.measurements().at(0).errors;
  };
  Recorder recorder;
  const at::Tensor out = make_backend("sdpa(math)")->run(call, recorder).out;
  EXPECT_NEAR(errors(Check::kAllRows).max_abs, out.abs().max().item<double>(), 1e-6);
  EXPECT_NEAR(errors(1000).rmse, errors(Check::kAllRows).rmse, 1e-12);
  const auto square = [&](int64_t row) { return out.select(1, row).square().mean().item<double>(); };
  const double one = errors(1).rmse;
  int equal = 0;
  for (int64_t row = 0; row < 40; ++row) equal += std::abs(std::sqrt(square(row)) - one) < 1e-6;
  EXPECT_EQ(equal, 1);
}

TEST(Check, RefusesWhereEitherCannot) {
  Problem p;
  p.kv_len = 40;
  EXPECT_EQ(Check(fake("a", 1, 10), fake("b"), 8, 0).unsupported(p), "40 keys are above 10");
  EXPECT_EQ(Check(fake("a"), fake("b", 1, 10), 8, 0).unsupported(p), "its b cannot: 40 keys are above 10");
  EXPECT_EQ(Check(fake("a"), fake("b"), 8, 0).unsupported(p), "");
}

}  // namespace
}  // namespace sagelab::attention::test
