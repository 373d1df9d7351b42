// SPDX-License-Identifier: Apache-2.0
// The runs behind a comparison: one request, one noise, one loaded model. First each spec plainly, then a
// once more: those are timed. Then each spec wrapped in check(spec, a), on its own latents or, locked, on
// a's: the errors of attention and of single steps come from these, which are never timed and not decoded.
#pragma once

#include <string>
#include <vector>

#include "app/compare/trajectory.h"
#include "app/session.h"

namespace sagelab {

// What is asked for.
struct CompareOrder {
  Request request;                 // resolved, so that every pass makes the same choices
  std::vector<std::string> specs;  // a, b, c ...: two or more
  bool locked = false;
  bool attention_errors = true;
};

struct Pass {
  std::string label, spec;  // "b", "sage2"
  Frames frames;            // no picture in checks
  StepErrors latents;       // against a's first run; of a's first run itself: empty
};

struct Comparison {
  CompareOrder order;
  std::vector<Pass> runs;    // a, b, ...
  Pass again;                // a's second run: the floor of every figure
  std::vector<Pass> checks;  // a, b, ...; empty where neither locked nor attention_errors asks for them
};

// Says on stderr what happens. Throws sagelab::Error naming the spec that failed, Cancelled after Ctrl-C.
Comparison run_passes(Session& session, const CompareOrder& order);
// Throws sagelab::Error where a spec cannot serve the request or takes too much memory: before anything is
// loaded.
void check_specs(const Session& session, const CompareOrder& order);

std::string label_of(size_t index);  // 0: "a"

}  // namespace sagelab
