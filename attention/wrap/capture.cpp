// SPDX-License-Identifier: Apache-2.0
#include "attention/wrap/capture.h"

namespace sagelab::attention {

bool Capturing::wants(const Site& site) const {
  return sink && holds(layers, site.layer, site.layers) && holds(steps, site.step, site.steps);
}

Output Capture::run(const Call& call, Recorder& recorder) const {
  if (what_.wants(call.site)) what_.sink({call.q, call.k, call.v, call.scale, call.causal, call.site});
  return inner()->run(call, recorder);
}

void Capture::run_joint(const JointCall& call, Recorder& recorder) const {
  if (what_.wants(call.site)) {
    const Gathered g = gather(call);
    what_.sink({g.q, g.k, g.v, call.scale, false, call.site});
  }
  inner()->run_joint(call, recorder);
}

}  // namespace sagelab::attention
