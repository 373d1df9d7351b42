// SPDX-License-Identifier: Apache-2.0
#include "attention/wrap/timed.h"

#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <chrono>

#include "attention/recorder.h"
#include "attention/registry.h"
#include "attention/spec.h"

namespace sagelab::attention {

namespace {

using Clock = std::chrono::steady_clock;

// The device's own event through c10, so that no CUDA header is needed.
class EventPair {
 public:
  explicit EventPair(const at::Device& device)
      : device_(device), begin_(device.type(), kTiming), end_(device.type(), kTiming) {
    begin_.record(stream());
  }
  void stop() { end_.record(stream()); }
  double seconds() const {
    end_.synchronize();
    return begin_.elapsedTime(end_) * 1e-3;
  }

 private:
  static constexpr c10::EventFlag kTiming = c10::EventFlag::BACKEND_DEFAULT;
  c10::Stream stream() const { return c10::impl::VirtualGuardImpl(device_.type()).getStream(device_); }
  at::Device device_;
  c10::Event begin_, end_;
};

template <class F>
void time(const at::Device& device, const Site& site, Recorder& recorder, F&& work) {
  if (device.is_cpu()) {
    const auto begin = Clock::now();
    work();
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    recorder.timed(site, [seconds] { return seconds; });
    return;
  }
  const auto events = std::make_shared<EventPair>(device);
  work();
  events->stop();
  recorder.timed(site, [events] { return events->seconds(); });
}

}  // namespace

Output Timed::run(const Call& call, Recorder& recorder) const {
  check_call(call);
  Output result;
  time(call.q.device(), call.site, recorder, [&] { result = inner()->run(call, recorder); });
  return result;
}

void Timed::run_joint(const JointCall& call, Recorder& recorder) const {
  check_joint(call);
  time(problem_of(call).device, call.site, recorder, [&] { inner()->run_joint(call, recorder); });
}

BackendPtr make_timed(Arguments& arguments) {
  const Spec* inner = arguments.positional();
  arguments.require_all_taken("one backend");
  if (inner == nullptr) arguments.fail("timed needs a backend", arguments.spec().position);
  return std::make_shared<Timed>(make_backend(*inner, arguments.text()));
}

}  // namespace sagelab::attention
