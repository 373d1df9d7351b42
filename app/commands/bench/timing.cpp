// SPDX-License-Identifier: Apache-2.0
#include "app/commands/bench/timing.h"

#include <ATen/DeviceAccelerator.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <chrono>
#include <memory>

namespace sagelab {

std::function<double()> start_timed(const at::Device& device, const std::function<void()>& body) {
  if (device.is_cpu()) {
    const auto start = std::chrono::steady_clock::now();
    body();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    return [taken] { return taken.count(); };
  }
  struct Events {
    c10::Event begin, end;
  };
  constexpr auto kTiming = c10::EventFlag::BACKEND_DEFAULT;
  const auto events =
      std::make_shared<Events>(c10::Event(device.type(), kTiming), c10::Event(device.type(), kTiming));
  const auto stream = c10::impl::VirtualGuardImpl(device.type()).getStream(device);
  events->begin.record(stream);
  body();
  events->end.record(stream);
  return [events] {
    events->end.synchronize();
    return events->begin.elapsedTime(events->end) * 1e-3;
  };
}

double seconds_of(const at::Device& device, const std::function<void()>& body) {
  return start_timed(device, body)();
}

void wait_for(const at::Device& device) {
  if (!device.is_cpu()) at::accelerator::synchronizeDevice(std::max<c10::DeviceIndex>(device.index(), 0));
}

}  // namespace sagelab
