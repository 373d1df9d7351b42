// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>
#include <ATen/DeviceAccelerator.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <functional>
#include <limits>
#include <utility>

#include "app/commands/bench/attention/attention.h"
#include "app/commands/bench/timing.h"
#include "attention/error.h"
#include "attention/wrap/check.h"
#include "pipelines/run.h"

namespace sagelab::bench {
namespace {

constexpr int kMostSets = 64;
constexpr int kTurns = 4;      // at most, where they begin with calls that settle
constexpr double kCaches = 3;  // quantized operands are half as large as the inputs

// One thing to time, and the times so far: those of the device are still on their way.
class Timer {
 public:
  Timer(at::Device device, std::function<void(int set)> body) : device_(device), body_(std::move(body)) {}

  void plan(const Settings& settings) {
    const double once = std::max(seconds_of(device_, [this] { body_(0); }), 1e-9);
    const double most = std::max(1.0, settings.most_seconds / once);
    repeats_ = int(std::min(double(settings.repeat), most));
    warmup_ = std::min(settings.warmup, repeats_ - 1);
    const double settle = settings.settle_seconds;
    settle_ = once < settle ? int(std::ceil(settle / once)) : 0;  // a longer call settles in itself
    each_turn_ = settle > 0 ? (repeats_ + kTurns - 1) / kTurns : 1;
  }
  int left() const { return repeats_ - int(pending_.size()); }
  // Calls that let the device settle, then some that count, each on the next inputs.
  void turn(const std::function<int()>& next) {
    for (int i = pending_.empty() ? std::max(warmup_, settle_) : settle_; i > 0; --i) body_(next());
    for (int i = std::min(each_turn_, left()); i > 0; --i)
      pending_.push_back(start_timed(device_, [this, set = next()] { body_(set); }));
  }
  Timing timing() const {
    std::vector<double> seconds;
    for (const auto& read : pending_) seconds.push_back(read());
    const auto [low, high] = std::minmax_element(seconds.begin(), seconds.end());
    return {median(seconds), *low, *high, int(seconds.size())};
  }

 private:
  at::Device device_;
  std::function<void(int)> body_;
  std::vector<std::function<double()>> pending_;
  int repeats_ = 0, warmup_ = 0, settle_ = 0, each_turn_ = 1;
};

// One backend at one shape.
class Contest {
 public:
  Contest(const Candidate& candidate, const std::vector<Inputs>& sets, const Settings& settings)
      : backend_(candidate.backend), sets_(sets), settings_(settings) {
    row_.spec = candidate.spec;
  }
  Contest(const Contest&) = delete;  // its timers point at it
  Contest& operator=(const Contest&) = delete;

  // Runs once and compares with the truth.
  void look(const at::Tensor& rows, const at::Tensor& exact) {
    guard([&] {
      row_.reason = backend_->unsupported(attention::problem_of(sets_.front().call));
      if (!row_.reason.empty()) return;
      // What an earlier backend wrote is not this one's.
      if (const auto& shared = sets_.front().out; shared.defined())
        shared.fill_(std::numeric_limits<double>::quiet_NaN());
      attention::Recorder recorder;
      const auto out = run_on(sets_.front(), *backend_, recorder).index_select(1, rows).to(at::kDouble);
      row_.errors = attention::errors_from(attention::error_figures(out, exact));
      row_.served = recorder.last_served();
      if (std::isfinite(row_.errors.rmse)) return;
      row_.reason = "the output holds values that are not finite";
      row_.failed = true;
    });
  }

  void prepare() {
    guard([&] {
      const auto device = settings_.target.device;
      run_.emplace(device, [this](int set) {
        attention::Recorder recorder;
        run_on(sets_[size_t(set)], *backend_, recorder);
      });
      run_->plan(settings_);
      for (const auto& inputs : sets_)
        if (auto kernel = backend_->prepared(inputs.call)) kernels_.push_back(std::move(kernel));
      if (kernels_.size() != sets_.size()) return;
      kernels_.front()();  // the first call of all is no estimate
      kernel_.emplace(device, [this](int set) { kernels_[size_t(set)](); });
      kernel_->plan(settings_);
    });
  }

  bool runs() const { return row_.reason.empty(); }
  std::vector<Timer*> timers() {
    std::vector<Timer*> all;
    if (runs() && run_) all.push_back(&*run_);
    if (runs() && kernel_) all.push_back(&*kernel_);
    return all;
  }
  Row row() const {
    Row row = row_;
    if (!runs()) return row;
    row.run = run_->timing();
    if (kernel_) row.kernel = kernel_->timing();
    return row;
  }

 private:
  // A backend that breaks is a row that says so; the others go on.
  void guard(const std::function<void()>& body) {
    try {
      body();
      return;
    } catch (const Error& e) {
      row_.reason = e.what();
    } catch (const std::exception& e) {
      row_.failed = !is_out_of_memory(e);
      row_.reason = row_.failed ? message_of(e) : "out of memory";
    }
    run_.reset(), kernel_.reset(), kernels_.clear();
    if (!settings_.target.device.is_cpu()) at::accelerator::emptyCache();
  }

  attention::BackendPtr backend_;
  const std::vector<Inputs>& sets_;
  const Settings& settings_;
  Row row_;
  std::vector<std::function<void()>> kernels_;
  std::optional<Timer> run_, kernel_;
};

// In turns, so that a drifting clock meets all alike; each call takes the next inputs.
void time_in_turns(std::deque<Contest>& contests, int sets) {
  std::vector<Timer*> timers;
  for (auto& contest : contests)
    for (auto* timer : contest.timers()) timers.push_back(timer);
  const std::function<int()> next = [sets, set = 0]() mutable {
    return std::exchange(set, (set + 1) % sets);
  };
  const auto left = [](const Timer* timer) { return timer->left() > 0; };
  while (std::any_of(timers.begin(), timers.end(), left))
    for (auto* timer : timers)
      if (left(timer)) timer->turn(next);
}

int64_t bytes_of(const attention::Call& call) {
  return int64_t(call.q.nbytes() + call.k.nbytes() + call.v.nbytes());
}

}  // namespace

int input_sets(int64_t bytes, int64_t cache_bytes) {
  const double wanted = std::ceil(kCaches * double(cache_bytes) / double(std::max<int64_t>(bytes, 1)));
  return int(std::clamp(wanted, 1.0, double(kMostSets)));
}

Result measure(const Shape& shape, const Settings& settings) {
  const c10::InferenceMode inference;
  const c10::DeviceGuard guard(settings.target.device);
  const auto options = at::TensorOptions().device(settings.target.device).dtype(settings.target.dtype);
  std::vector<Inputs> sets{draw_inputs(shape, settings.distribution, settings.seed, options)};
  const int count = input_sets(bytes_of(sets.front().call), settings.cache_bytes);
  for (int i = 1; i < count; ++i)
    sets.push_back(draw_inputs(shape, settings.distribution, settings.seed + uint64_t(i), options));
  const auto rows = sample_rows(shape.tokens, settings.rows, settings.seed, settings.target.device);
  const auto exact = exact_rows(sets.front(), rows);

  std::deque<Contest> contests;
  for (const auto& candidate : settings.candidates) contests.emplace_back(candidate, sets, settings);
  for (auto& contest : contests) {
    contest.look(rows, exact);
    if (contest.runs()) contest.prepare();
  }
  wait_for(settings.target.device);
  time_in_turns(contests, count);
  Result result{shape, count, {}};
  for (const auto& contest : contests) result.rows.push_back(contest.row());
  return result;
}

}  // namespace sagelab::bench
