// SPDX-License-Identifier: Apache-2.0
#include "attention/recorder.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <tuple>

namespace sagelab::attention {

namespace {

bool same_place(const Site& a, const Site& b) {
  const auto key = [](const Site& s) { return std::tie(s.step, s.layer, s.branch, s.call, s.block); };
  return key(a) == key(b);
}

}  // namespace

void Recorder::served(const Site& site, const std::string& backend, bool fused) {
  const std::lock_guard lock(mutex_);
  Served& entry = served_[backend];
  entry.calls += 1;
  entry.fused += fused ? 1 : 0;
  calls_.push_back({site, backend, fused, std::nullopt});
}

void Recorder::fell_back(Fallback fallback) {
  const std::lock_guard lock(mutex_);
  fallback_count_ += 1;
  const auto same = [&](const Fallback& f) {
    return f.from == fallback.from && f.to == fallback.to && f.reason == fallback.reason;
  };
  if (std::none_of(fallbacks_.begin(), fallbacks_.end(), same)) fallbacks_.push_back(std::move(fallback));
}

void Recorder::measured(Measurement measurement) {
  const std::lock_guard lock(mutex_);
  measurements_.push_back(std::move(measurement));
}

void Recorder::measured(const Site& site, const std::string& a, const std::string& b,
                        std::function<Errors()> errors) {
  const std::lock_guard lock(mutex_);
  pending_errors_.push_back({{site, a, b, {}}, std::move(errors)});
}

void Recorder::timed(const Site& site, std::function<double()> seconds) {
  const std::lock_guard lock(mutex_);
  const auto last = std::find_if(calls_.rbegin(), calls_.rend(),
                                 [&](const ServedCall& c) { return same_place(c.site, site); });
  TORCH_CHECK(last != calls_.rend(), "attention: a call of step ", site.step, ", layer ", site.layer,
              " was timed, but nobody served it");
  pending_.push_back({static_cast<size_t>(calls_.rend() - last) - 1, std::move(seconds)});
}

void Recorder::collect() {
  std::vector<Pending> times;
  std::vector<PendingErrors> errors;
  {
    const std::lock_guard lock(mutex_);
    times.swap(pending_);
    errors.swap(pending_errors_);
  }
  // Read outside the lock: reading an event may wait for the device, and the UI polls meanwhile.
  std::vector<double> seconds;
  for (const Pending& p : times) seconds.push_back(p.seconds());
  for (PendingErrors& p : errors) p.measurement.errors = p.errors();

  const std::lock_guard lock(mutex_);
  for (size_t i = 0; i < times.size(); ++i) {
    ServedCall& call = calls_[times[i].call];
    served_[call.backend].seconds += seconds[i] - call.seconds.value_or(0);
    call.seconds = seconds[i];
  }
  for (PendingErrors& p : errors) measurements_.push_back(std::move(p.measurement));
}

std::map<std::string, Served> Recorder::served() const {
  const std::lock_guard lock(mutex_);
  return served_;
}

std::vector<ServedCall> Recorder::calls() const {
  const std::lock_guard lock(mutex_);
  return calls_;
}

std::string Recorder::last_served() const {
  const std::lock_guard lock(mutex_);
  return calls_.empty() ? std::string() : calls_.back().backend;
}

std::vector<Measurement> Recorder::measurements() const {
  const std::lock_guard lock(mutex_);
  return measurements_;
}

std::vector<Fallback> Recorder::fallbacks() const {
  const std::lock_guard lock(mutex_);
  return fallbacks_;
}

int64_t Recorder::fallback_count() const {
  const std::lock_guard lock(mutex_);
  return fallback_count_;
}

namespace {

// One step and branch: layers in order, neighbours that one backend served joined. A layer that two backends
// served stands in a span of each.
std::vector<Span> spans_of_step(std::vector<Span> layers) {
  std::stable_sort(layers.begin(), layers.end(),
                   [](const Span& a, const Span& b) { return a.first_layer < b.first_layer; });
  std::vector<Span> joined;
  for (Span& next : layers) {
    const auto last = std::find_if(joined.rbegin(), joined.rend(), [&](const Span& s) {
      return s.backend == next.backend && next.first_layer <= s.last_layer + 1;
    });
    if (last == joined.rend()) {
      joined.push_back(std::move(next));
    } else {
      last->last_layer = std::max(last->last_layer, next.last_layer);
    }
  }
  return joined;
}

bool same_layers(const std::vector<Span>& a, const std::vector<Span>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Span& x, const Span& y) {
    return x.first_layer == y.first_layer && x.last_layer == y.last_layer && x.backend == y.backend;
  });
}

}  // namespace

std::vector<Span> Recorder::spans() const {
  std::map<Branch, std::map<int, std::vector<Span>>> grouped;
  {
    const std::lock_guard lock(mutex_);
    for (const ServedCall& r : calls_) {
      grouped[r.site.branch][r.site.step].push_back(
          {r.site.step, r.site.step, r.site.layer, r.site.layer, r.site.branch, r.backend});
    }
  }
  std::vector<Span> all;
  for (auto& [branch, steps] : grouped) {
    std::vector<Span> open;  // of the latest steps, which all had these layers
    const auto close = [&] { all.insert(all.end(), open.begin(), open.end()); };
    for (auto& [step, layers] : steps) {
      std::vector<Span> now = spans_of_step(std::move(layers));
      if (!open.empty() && open.front().last_step + 1 == step && same_layers(open, now)) {
        for (Span& s : open) s.last_step = step;
      } else {
        close();
        open = std::move(now);
      }
    }
    close();
  }
  std::stable_sort(all.begin(), all.end(), [](const Span& a, const Span& b) {
    return std::tie(a.first_step, a.branch, a.first_layer) < std::tie(b.first_step, b.branch, b.first_layer);
  });
  return all;
}

}  // namespace sagelab::attention
