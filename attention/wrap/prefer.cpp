// SPDX-License-Identifier: Apache-2.0
#include "attention/wrap/prefer.h"

#include "attention/recorder.h"
#include "attention/registry.h"
#include "attention/spec.h"

namespace sagelab::attention {

Prefer::Prefer(std::vector<BackendPtr> choices) : Wrapper(choices.at(0)), choices_(std::move(choices)) {}

std::string Prefer::name() const {
  std::string name;
  for (const BackendPtr& c : choices_) name += (name.empty() ? "prefer(" : ",") + c->name();
  return name + ")";
}

std::string Prefer::unsupported(const Problem& problem) const {
  std::string reasons;
  for (const BackendPtr& c : choices_) {
    const std::string reason = c->unsupported(problem);
    if (reason.empty()) return {};
    reasons += (reasons.empty() ? "" : "; ") + c->name() + ": " + reason;
  }
  return reasons;
}

const Backend& Prefer::serving(const Problem& problem) const {
  for (const BackendPtr& c : choices_)
    if (c->unsupported(problem).empty()) return *c;
  return *choices_.front();
}

const Backend& Prefer::choose(const Problem& problem, const Site& site, Recorder& recorder) const {
  const Backend &first = *choices_.front(), &chosen = serving(problem);
  const std::string reason = first.unsupported(problem);
  if (reason.empty()) return first;
  if (&chosen == &first) require_supported(*this, problem);
  recorder.fell_back({site, first.name(), chosen.name(), reason});
  return chosen;
}

Output Prefer::run(const Call& call, Recorder& recorder) const {
  check_call(call);
  return choose(problem_of(call), call.site, recorder).run(call, recorder);
}

void Prefer::run_joint(const JointCall& call, Recorder& recorder) const {
  check_joint(call);
  choose(problem_of(call), call.site, recorder).run_joint(call, recorder);
}

int64_t Prefer::run_bytes(const Problem& problem) const {
  return serving(problem).run_bytes(problem);
}

int64_t Prefer::joint_bytes(const Problem& problem, bool rotated) const {
  return serving(problem).joint_bytes(problem, rotated);
}

std::function<void()> Prefer::prepared(const Call& call) const {
  check_call(call);
  Recorder apart;  // nothing is served
  return choose(problem_of(call), call.site, apart).prepared(call);
}

BackendPtr make_prefer(Arguments& arguments) {
  std::vector<BackendPtr> choices;
  while (const Spec* s = arguments.positional()) choices.push_back(make_backend(*s, arguments.text()));
  arguments.require_all_taken("backends in order of preference");
  if (choices.size() < 2) arguments.fail("prefer needs two backends or more", arguments.spec().position);
  return std::make_shared<Prefer>(std::move(choices));
}

}  // namespace sagelab::attention
