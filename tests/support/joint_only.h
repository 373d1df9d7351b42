// SPDX-License-Identifier: Apache-2.0
// A backend that refuses every way in but the joint call, and notes what the calls were.
#pragma once

#include <ATen/ATen.h>

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "attention/joint.h"
#include "attention/registry.h"

namespace sagelab::testing {

class JointOnly final : public attention::Backend {
 public:
  struct Seen {
    attention::Site site;
    std::vector<int64_t> rows;         // of each segment
    std::vector<int64_t> out_strides;  // of a row of each segment's result; 0: it has none
    std::vector<const void*> q_norms;  // of each segment, or null
  };
  std::string name() const override { return "joint-only"; }
  std::string unsupported(const attention::Problem&) const override { return {}; }
  attention::Output run(const attention::Call&, attention::Recorder&) const override {
    throw std::logic_error("attention beside run_joint");
  }
  void run_joint(const attention::JointCall& call, attention::Recorder& recorder) const override {
    Seen one{call.site, {}, {}, {}};
    for (const attention::Segment& s : call.segments) {
      one.rows.push_back(s.k.size(1));
      one.out_strides.push_back(s.out.defined() ? s.out.stride(1) : 0);
      const at::Tensor& norm = s.q_norm.weight;
      one.q_norms.push_back(norm.defined() ? norm.const_data_ptr() : nullptr);
    }
    one_view = one_view && attention::destination(call).defined();
    seen.push_back(one);
    inner->run_joint(call, recorder);
  }
  // A call's site as these would have it.
  static void expect_run(const Seen& seen, const attention::Site& of) {
    EXPECT_EQ(seen.site.step, of.step);
    EXPECT_EQ(seen.site.steps, of.steps);
    EXPECT_EQ(seen.site.branch, of.branch);
  }

  attention::BackendPtr inner = attention::make_backend("sdpa");
  mutable std::vector<Seen> seen;
  mutable bool one_view = true;  // a backend could write every call's result in place
};

}  // namespace sagelab::testing
