// SPDX-License-Identifier: Apache-2.0
#include "app/compare/passes.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

#include "app/interrupt.h"
#include "app/terminal/follow.h"
#include "attention/error.h"

namespace sagelab {
namespace {

std::string check_spec_of(const CompareOrder& order, size_t i) {
  return order.attention_errors ? fmt::format("check({},{})", order.specs[i], order.specs[0])
                                : order.specs[i];
}

bool has_checks(const CompareOrder& order) {
  return order.locked || order.attention_errors;
}

Error named(const std::string& label, const std::string& spec, const std::string& what,
            const std::string& hint) {
  return Error(fmt::format("--{} {}: {}", label, spec, what), hint);
}

class PassRunner {
 public:
  PassRunner(Session& session, const CompareOrder& order)
      : session_(session),
        order_(order),
        line_(stderr, isatty(STDERR_FILENO) != 0),
        count_(order.specs.size() + 1 + (has_checks(order) ? order.specs.size() : 0)) {
    session_.expect({order_.request});  // all of it stays from run to run, where there is room
  }

  // attention: what serves, where that is not the spec itself.
  Pass run(size_t i, const std::string& what, const std::string& attention,
           const std::function<StepHooks(Pass&)>& hooks) {
    Pass pass{label_of(i), order_.specs[i], {}, {}};
    line_.clear();
    std::fprintf(stderr, "sagelab: run %zu of %zu: %s = %s%s\n", ++done_, count_, pass.label.c_str(),
                 pass.spec.c_str(), what.c_str());
    Request request = order_.request;
    request.attention = attention;
    try {
      pass.frames = frames_of(session_, session_.submit(request, {}, {}, hooks(pass)), line_);
    } catch (const Error& e) {
      throw named(pass.label, pass.spec, e.what(), e.hint());
    }
    return pass;
  }

 private:
  Session& session_;
  const CompareOrder& order_;
  ProgressLine line_;
  size_t done_ = 0, count_;
};

}  // namespace

std::string label_of(size_t index) {
  return std::string(1, char('a' + index));
}

void check_specs(const Session& session, const CompareOrder& order) {
  const auto& family = family_of(order.request.model);
  for (size_t i = 0; i < order.specs.size(); ++i) {
    for (const std::string& attention : {order.specs[i], check_spec_of(order, i)}) {
      Request request = order.request;
      request.attention = attention;
      try {
        request = family.resolve(request);
        session.require_memory(family.plan(request), resolve_target(request).device);
      } catch (const Error& e) {
        throw named(label_of(i), order.specs[i], e.what(), e.hint());
      }
    }
  }
}

Comparison run_passes(Session& session, const CompareOrder& order) {
  Comparison all{order, {}, {}, {}};
  Trajectory trajectory;
  PassRunner runner(session, order);
  const auto against = [&](bool locked, bool decode) {
    return [&trajectory, locked, decode](Pass& pass) {
      StepHooks hooks = trajectory.compare(pass.latents, locked);
      hooks.decode = decode;
      return hooks;
    };
  };
  all.runs.push_back(runner.run(0, "", order.specs[0], [&](Pass&) { return trajectory.keep(); }));
  for (size_t i = 1; i < order.specs.size(); ++i)
    all.runs.push_back(runner.run(i, "", order.specs[i], against(false, true)));
  all.again = runner.run(0, ", once more", order.specs[0], against(false, true));
  if (!has_checks(order)) return all;
  const std::string what = order.attention_errors ? ", measuring attention" : "";
  for (size_t i = 0; i < order.specs.size(); ++i)
    all.checks.push_back(runner.run(i, what + (order.locked ? ", on a's latents" : ""),
                                    check_spec_of(order, i), against(order.locked, false)));
  return all;
}

}  // namespace sagelab
