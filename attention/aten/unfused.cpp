// SPDX-License-Identifier: Apache-2.0
#include "attention/aten/unfused.h"

#include <algorithm>

#include "attention/spec.h"

namespace sagelab::attention {

void Unfused::run_joint(const JointCall& call, Recorder& recorder) const {
  Gathered g = gather_reference(call);
  const Call plain{std::move(g.q), std::move(g.k), std::move(g.v), call.scale,       false,
                   false,          call.site,      false,          destination(call)};
  scatter(inner()->run(plain, recorder).out, call);
}

int64_t Unfused::joint_bytes(const Problem& problem, bool rotated) const {
  Problem by_aten = problem;  // which takes on any device what it takes on the CPU
  by_aten.device = at::kCPU;
  const GatherBytes gathered = gather_bytes(by_aten, rotated);
  return std::max(gathered.peak, gathered.kept + inner()->run_bytes(problem));
}

BackendPtr make_unfused(Arguments& arguments) {
  const Spec* inner = arguments.positional();
  arguments.require_all_taken("one backend");
  if (inner == nullptr) arguments.fail("unfused needs a backend", arguments.spec().position);
  return std::make_shared<Unfused>(make_backend(*inner, arguments.text()));
}

}  // namespace sagelab::attention
