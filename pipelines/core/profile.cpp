// SPDX-License-Identifier: Apache-2.0
#include "pipelines/core/profile.h"

#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <chrono>

namespace sagelab {

using Clock = std::chrono::steady_clock;

struct Profile::Impl {
  struct Mark {
    std::unique_ptr<c10::Event> event;
    Clock::time_point time;
  };
  struct Span {
    const char* name;
    Mark begin, end;
  };
  at::Device device;
  c10::impl::VirtualGuardImpl guard;
  std::vector<Span> spans;
  std::vector<size_t> open;

  explicit Impl(at::Device d) : device(d), guard(d.type()) {}

  Mark mark() const {
    Mark m;
    if (device.is_cuda()) {
      m.event = std::make_unique<c10::Event>(device.type(), c10::EventFlag::BACKEND_DEFAULT);
      m.event->record(guard.getStream(device));
    } else {
      m.time = Clock::now();
    }
    return m;
  }
};

Profile::Profile(at::Device device) : impl_(std::make_unique<Impl>(device)) {}
Profile::~Profile() = default;

Profile::Section::Section(Profile* profile, const char* name) : profile_(profile) {
  if (!profile_) return;
  profile_->impl_->open.push_back(profile_->impl_->spans.size());
  profile_->impl_->spans.push_back({name, profile_->impl_->mark(), {}});
}

Profile::Section::~Section() {
  if (!profile_) return;
  profile_->impl_->spans[profile_->impl_->open.back()].end = profile_->impl_->mark();
  profile_->impl_->open.pop_back();
}

std::map<std::string, double> Profile::seconds() {
  std::map<std::string, double> out;
  for (auto& span : impl_->spans) {
    if (span.begin.event) {
      span.end.event->synchronize();
      out[span.name] += span.begin.event->elapsedTime(*span.end.event) * 1e-3;
    } else {
      out[span.name] += std::chrono::duration<double>(span.end.time - span.begin.time).count();
    }
  }
  return out;
}

}  // namespace sagelab
