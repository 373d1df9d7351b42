// SPDX-License-Identifier: Apache-2.0
#include "attention/joint.h"

#include <gtest/gtest.h>

#include "attention/recorder.h"
#include "attention/registry.h"
#include "tests/attention/exact.h"

namespace sagelab::attention::test {
namespace {

// Norm and RoPE in fp32, rounded once: half an ulp of the dtype, relative to the largest values of a row.
double gather_bound(at::ScalarType dtype) {
  return dtype == at::kFloat ? 3e-7 : dtype == at::kHalf ? 4e-4 : 3e-3;
}

// gather and the default run_joint against the definition.
void expect_exact(const JointShape& shape) {
  JointCase joint(shape);
  const ExactGathered exact = exact_gather(joint.call());
  for (const Gathered& g : {gather(joint.call()), gather_reference(joint.call())}) {
    EXPECT_LT(relative_error(g.q, exact.q), gather_bound(shape.dtype));
    EXPECT_LT(relative_error(g.k, exact.k), gather_bound(shape.dtype));
    EXPECT_EQ(relative_error(g.v, exact.v), 0);
  }
  Recorder recorder;
  make_backend("reference")->run_joint(joint.call(), recorder);
  const at::Tensor expected = exact_attention(exact.q, exact.k, exact.v, joint.scale, false).out;
  EXPECT_LT(relative_error(joint.outs(), expected), shape.dtype == at::kFloat ? 1e-6 : 1e-2);
  EXPECT_TRUE(joint.surroundings_untouched());
  EXPECT_EQ(recorder.served()["reference"].calls, 1);
}

TEST(Joint, EveryNormWithEveryRope) {
  for (const at::Device& device : devices()) {
    for (const Norm::Kind norm : {Norm::Kind::None, Norm::Kind::Rms, Norm::Kind::Layer}) {
      for (const RopeForm rope : {RopeForm::None, RopeForm::Tables, RopeForm::Positions}) {
        for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
          SCOPED_TRACE(fmt::format("norm {} rope {} {} {}", static_cast<int>(norm), static_cast<int>(rope),
                                   name_of(dtype), device.str()));
          JointShape shape;
          shape.norm = norm;
          shape.rope = rope;
          shape.dtype = dtype;
          shape.device = device;
          expect_exact(shape);
        }
      }
    }
  }
}

TEST(Joint, MissingWeightAndBias) {
  for (const at::Device& device : devices()) {
    for (const Norm::Kind norm : {Norm::Kind::Rms, Norm::Kind::Layer}) {
      for (const int given : {0, 1, 2, 3}) {
        JointShape shape;
        shape.norm = norm;
        shape.weight = (given & 1) != 0;
        shape.bias = (given & 2) != 0;
        shape.device = device;
        expect_exact(shape);
      }
    }
  }
}

TEST(Joint, SegmentsOfEveryKind) {
  for (const at::Device& device : devices()) {
    JointShape shape;
    shape.device = device;
    shape.lengths = {33};
    shape.queries = {true};
    expect_exact(shape);
    shape.lengths = {5, 17, 9};
    shape.queries = {true, false, true};
    expect_exact(shape);
    shape.queries = {false, true, false};
    expect_exact(shape);
    shape.lengths = {0, 17, 0};
    shape.queries = {true, true, false};
    expect_exact(shape);
    shape.queries = {true, true, true};
    shape.lengths = {6, 1, 12};
    shape.head_dim = 128;
    shape.heads = 6;
    shape.kv_heads = 2;
    shape.wide_out = false;
    expect_exact(shape);
    shape.head_dim = 16;
    shape.batch = 1;
    expect_exact(shape);
  }
}

TEST(Joint, SmallVarianceShowsEps) {
  JointShape shape;
  shape.input_scale = 5e-3;
  shape.eps = 1e-5;
  for (const at::Device& device : devices()) {
    shape.device = device;
    expect_exact(shape);
  }
}

TEST(Joint, NothingToDoCopiesNothing) {
  JointShape shape;
  shape.lengths = {33};
  shape.queries = {true};
  shape.norm = Norm::Kind::None;
  shape.rope = RopeForm::None;
  const JointCase joint(shape);
  const Gathered g = gather(joint.call());
  EXPECT_EQ(g.q.const_data_ptr(), joint.segments[0].q.const_data_ptr());
  EXPECT_EQ(g.k.const_data_ptr(), joint.segments[0].k.const_data_ptr());
  EXPECT_EQ(g.v.const_data_ptr(), joint.segments[0].v.const_data_ptr());
  EXPECT_FALSE(g.fused);
}

TEST(Joint, SingleSegmentKeepsItsV) {
  JointShape shape;
  shape.lengths = {33};
  shape.queries = {true};
  const JointCase joint(shape);
  EXPECT_EQ(gather_reference(joint.call()).v.const_data_ptr(), joint.segments[0].v.const_data_ptr());
}

TEST(Joint, NeighboursInOneTensorAreOneView) {
  const at::Tensor qkv = normal({2, 20, 3, 4, 64}, 3, at::kFloat, at::kCPU), out = at::empty({2, 20, 4, 64});
  const auto rows = [](const at::Tensor& t, int64_t first, int64_t count) {
    return t.narrow(1, first, count);
  };
  const at::Tensor q = qkv.select(2, 0), k = qkv.select(2, 1), v = qkv.select(2, 2);
  const auto segment = [&](int64_t first, int64_t count) {
    return Segment{rows(q, first, count),  rows(k, first, count), rows(v, first, count), {}, {}, {},
                   rows(out, first, count)};
  };
  const std::vector<Segment> in_order{segment(0, 6), segment(6, 14)};
  const Gathered g = gather({in_order, 1, {}});
  EXPECT_EQ(g.q.const_data_ptr(), q.const_data_ptr());
  EXPECT_TRUE(g.k.equal(k));
  EXPECT_EQ(g.v.strides(), v.strides());
  EXPECT_EQ(destination({in_order, 1, {}}).const_data_ptr(), out.const_data_ptr());

  const std::vector<Segment> turned{segment(6, 14), segment(0, 6)};
  const Gathered copied = gather({turned, 1, {}});
  EXPECT_NE(copied.q.const_data_ptr(), q.const_data_ptr());
  EXPECT_TRUE(copied.v.equal(at::cat({rows(v, 6, 14), rows(v, 0, 6)}, 1)));
  EXPECT_FALSE(destination({turned, 1, {}}).defined());
}

// A view of rows of one batch has any stride from batch to batch.
TEST(Joint, NeighboursOfOneBatchAreOneView) {
  const at::Tensor qkv = normal({1, 20, 3 * 4 * 64}, 3, at::kFloat, at::kCPU),
                   out = at::empty({1, 20, 4, 64});
  const auto segment = [&](int64_t first, int64_t count) {
    const at::Tensor heads = qkv.narrow(1, first, count).unflatten(2, {3, 4, 64});
    return Segment{heads.select(2, 0),         heads.select(2, 1), heads.select(2, 2), {}, {}, {},
                   out.narrow(1, first, count)};
  };
  const std::vector<Segment> both{segment(0, 6), segment(6, 14)};
  ASSERT_NE(both[0].q.stride(0), both[1].q.stride(0));
  const Gathered g = gather({both, 1, {}});
  EXPECT_EQ(g.q.const_data_ptr(), qkv.const_data_ptr());
  EXPECT_TRUE(g.v.equal(qkv.unflatten(2, {3, 4, 64}).select(2, 2)));
}

TEST(Joint, IdentityRowsAreLeftAlone) {
  JointShape shape;
  shape.norm = Norm::Kind::None;
  shape.lengths = {12};
  shape.queries = {true};
  JointCase joint(shape);
  joint.segments[0].rope.cos.narrow(0, 0, 5).fill_(1);
  joint.segments[0].rope.sin.narrow(0, 0, 5).fill_(0);
  const at::Tensor q = gather(joint.call()).q;
  EXPECT_TRUE(q.narrow(1, 0, 5).equal(joint.segments[0].q.narrow(1, 0, 5)));
  EXPECT_FALSE(q.narrow(1, 5, 7).equal(joint.segments[0].q.narrow(1, 5, 7)));
}

template <class Change>
std::string complaint(Change change) {
  JointCase joint((JointShape()));
  change(joint.segments);
  try {
    check_joint(joint.call());
  } catch (const c10::Error& e) {
    return e.what_without_backtrace();
  }
  return "none";
}

TEST(Joint, WhatDoesNotFitIsNamed) {
  using Segments = std::vector<Segment>;
  EXPECT_EQ(complaint([](Segments&) {}), "none");
  EXPECT_EQ(complaint([](Segments& s) { s.clear(); }), "attention: a joint call needs a segment");
  EXPECT_EQ(complaint([](Segments& s) { s[1].out.reset(); }), "attention: segment 1: q and out go together");
  EXPECT_EQ(
      complaint([](Segments& s) { s[1].v = s[1].v.narrow(1, 0, 3); }),
      "attention: segment 1: k and v must be [B, S, H, D] of one size, got [2, 41, 4, 64] and [2, 3, 4, 64]");
  EXPECT_EQ(complaint([](Segments& s) { s[1].q = s[1].q.narrow(1, 0, 3); }),
            "attention: segment 1: q [2, 3, 4, 64] does not fit k [2, 41, 4, 64]");
  EXPECT_EQ(complaint([](Segments& s) { s[0].q_norm.weight = at::ones({32}); }),
            "attention: segment 0: q_norm parameter [32] does not fit head dimension 64");
  EXPECT_EQ(complaint([](Segments& s) {
              s[0].rope.cos = at::ones({7, 64});
            }),
            "attention: segment 0: RoPE tables must be fp32 [7, 32], got [7, 64] and [7, 32]");
  EXPECT_EQ(complaint([](Segments& s) { s[0].rope.cos.reset(); }),
            "attention: segment 0: RoPE wants cos with sin, and positions with frequencies");
  EXPECT_EQ(complaint([](Segments& s) {
              s[1].rope.frequencies = at::ones({3, 4, 32});
            }),
            "attention: segment 1: RoPE wants cos with sin, and positions with frequencies");
  EXPECT_EQ(complaint([](Segments& s) { s[1].k = s[1].k.to(at::kHalf); }),
            "attention: segment 1: Half on cpu among Float on cpu");
  EXPECT_EQ(complaint([](Segments& s) {
              for (Segment& each : s) each.q.reset(), each.out.reset();
            }),
            "attention: no segment of the joint call has queries");
  EXPECT_EQ(complaint([](Segments& s) { s[0].out = s[0].out.narrow(3, 0, 32); }),
            "attention: segment 0: out [2, 7, 4, 32] does not fit q [2, 7, 4, 64]");
}

}  // namespace
}  // namespace sagelab::attention::test
