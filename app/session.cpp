// SPDX-License-Identifier: Apache-2.0
#include "app/session.h"

#include <ATen/Context.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "app/failure.h"
#include "app/replay/made.h"
#include "app/report/report.h"
#include "app/system.h"
#include "attention/registry.h"
#include "pipelines/core/memory.h"
#include "pipelines/footprint.h"

namespace sagelab {
namespace {

// What fails here must not hide what failed before.
void release_cached_memory() noexcept {
  try {
    if (at::globalContext().hasCUDA()) at::getDeviceAllocator(at::kCUDA)->emptyCache();
  } catch (const std::exception&) {
  }
}

bool ends_denoising(const decltype(Progress::what)& what) {
  const auto* phase = std::get_if<Phase>(&what);
  return phase && phase->name == "denoise" && phase->i == phase->n;
}

// What check(...) measured since it was last asked, in the order of the calls.
class Measurements {
 public:
  std::vector<Measured> take(attention::Recorder& recorder) {
    recorder.collect();
    const auto all = recorder.measurements();
    std::vector<Measured> fresh;
    for (; told_ < all.size(); ++told_) {
      const auto& m = all[told_];
      fresh.push_back({m.site.step, m.site.layer, m.a, m.b, m.errors.cosine, m.errors.relative_l1,
                       m.errors.rmse, m.errors.max_abs});
    }
    return fresh;
  }

 private:
  size_t told_ = 0;
};

Frames frames_of(const ReportInput& run, const Family& family) {
  Request request = run.request;
  if (run.result.tiled_after_all) request.vae_tiling = "on";  // what decides over bits is stored as it was
  Frames frames;
  frames.picture = run.result.picture;
  frames.fps = request.fps.value_or(frames.fps);
  frames.report = make_report({request, run.result, run.plan, run.recorder, run.device});
  frames.report["made"] = made_of(family, request, run.result, frames.report);
  frames.request = request;
  return frames;
}

// In place. What is wrong with it is said when its turn comes.
bool resolves(const Family& family, Request& request) {
  try {
    request = family.resolve(request);
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

Session::Session(FindFamily find_family, MemoryFor memory)
    : find_family_(std::move(find_family)), memory_(std::move(memory)) {
  count_cpu_tensors();
  worker_ = std::jthread([this](const std::stop_token& stop) { work(stop); });
}

Session::~Session() {
  {
    const std::scoped_lock lock(jobs_mutex_);
    for (const auto& job : jobs_) job->stop.request_stop();
    if (running_) running_->stop.request_stop();
  }
  worker_.request_stop();
  worker_.join();
}

JobId Session::submit(Request request, Latents latents, attention::Capturing capture, StepHooks hooks) {
  const std::scoped_lock lock(jobs_mutex_);
  auto job = std::make_shared<Job>();
  job->id = ++last_id_;
  job->latents = std::move(latents);
  job->capture = std::move(capture);
  job->hooks = std::move(hooks);
  if (job->latents.save.empty()) job->latents.save = request.latents;
  job->request = std::move(request);
  jobs_.push_back(job);
  jobs_changed_.notify_one();
  return job->id;
}

void Session::expect(std::vector<Request> requests) {
  const std::scoped_lock lock(jobs_mutex_);
  expected_ = std::move(requests);
}

std::optional<Progress> Session::poll() {
  return wait(std::chrono::milliseconds(0));
}

std::optional<Progress> Session::wait(std::chrono::milliseconds timeout) {
  std::unique_lock lock(progress_mutex_);
  if (timeout.count() > 0) progress_changed_.wait_for(lock, timeout, [this] { return !progress_.empty(); });
  if (progress_.empty()) return std::nullopt;
  auto progress = std::move(progress_.front());
  progress_.pop_front();
  return progress;
}

void Session::cancel(JobId id) {
  const std::scoped_lock lock(jobs_mutex_);
  if (running_ && running_->id == id) running_->stop.request_stop();
  for (const auto& job : jobs_)
    if (job->id == id) job->stop.request_stop();
}

bool Session::set_attention(std::string_view spec) {
  auto backend = attention::make_backend(spec);
  const std::scoped_lock lock(attention_mutex_);
  if (!selector_) return false;
  for (const auto& problem : problems_) attention::require_supported(*backend, problem);
  selector_->set(std::move(backend));
  return true;
}

void Session::stop_switching() {
  std::shared_ptr<attention::Selector> stopped;  // goes with the lock open
  const std::scoped_lock lock(attention_mutex_);
  stopped.swap(selector_);
}

void Session::say(JobId job, decltype(Progress::what) what) {
  const std::scoped_lock lock(progress_mutex_);
  progress_.push_back({job, std::move(what)});
  progress_changed_.notify_all();
}

double Session::longest_wait() const {
  return std::max(jobs_mutex_.longest_wait(), attention_mutex_.longest_wait());
}

void Session::work(const std::stop_token& stop) {
  for (;;) {
    std::shared_ptr<Job> job;
    {
      std::unique_lock lock(jobs_mutex_);
      jobs_changed_.wait(lock, stop, [this] { return !jobs_.empty(); });
      if (jobs_.empty()) return;
      job = running_ = jobs_.front();
      jobs_.pop_front();
    }
    run(job);
  }
}

// The one catch of a run.
void Session::run(const std::shared_ptr<Job>& job) {
  std::string saved_latents;
  decltype(Progress::what) end;
  try {
    end = Finished{make_frames(*job, saved_latents)};
  } catch (...) {
    auto failed = describe(std::current_exception());
    failed.latents = saved_latents;
    if (!failed.cancelled) {
      loaded_ = {};
      release_cached_memory();
    }
    end = std::move(failed);
  }
  {
    const std::scoped_lock lock(jobs_mutex_);
    running_.reset();
  }
  stop_switching();
  say(job->id, std::move(end));
}

void Session::require_memory(const Plan& plan, const at::Device& device) const {
  const int64_t there = memory_(device);
  if (plan.peak_bytes() <= there) return;
  throw Error(fmt::format("this run takes {} of memory on {} at its peak, and {} are there",
                          human_bytes(plan.peak_bytes()), device_name(device), human_bytes(there)),
              kTakeLessMemory);
}

Frames Session::make_frames(Job& job, std::string& saved_latents) {
  if (job.stop.stop_requested()) throw Cancelled();
  const auto& family = find_family_(job.request.model);
  const auto request = family.resolve(job.request);
  auto plan = family.plan(request);
  if (job.capture.sink) plan.expect_capture();
  const auto device = resolve_target(request).device;

  const auto spec = request.attention.empty() ? attention::default_spec(device) : request.attention;
  const auto selector = std::make_shared<attention::Selector>(attention::make_backend(spec));
  const bool denoises = job.latents.decode.empty();
  if (denoises) {
    auto problems = plan.problems;
    const std::scoped_lock lock(attention_mutex_);
    selector_ = selector;
    problems_.swap(problems);
  }
  attention::Recorder recorder;
  Measurements measurements;
  const RunContext context{.attention = selector,
                           .recorder = recorder,
                           .stop = job.stop.get_token(),
                           .progress =
                               [&, id = job.id](decltype(Progress::what) what) {
                                 if (ends_denoising(what)) stop_switching();
                                 // A step is done, and the device with it: nothing waits for its figures.
                                 if (std::holds_alternative<Step>(what))
                                   for (auto& measured : measurements.take(recorder)) say(id, measured);
                                 say(id, std::move(what));
                               },
                           .saved_latents = &saved_latents,
                           .capture = &job.capture,
                           .hooks = &job.hooks,
                           .checkpoints = &job.latents.checkpoints};
  say(job.id, Started{request});
  const auto notices = check_variant(family, request);
  for (const auto& notice : notices) context.notice(notice);
  if (denoises) require_memory(plan, device);
  auto& pipeline = pipeline_for(family, request, context);
  auto result = denoises ? generate(pipeline, request, job.latents.save, context)
                         : decode_latents(pipeline, request, job.latents.decode, context);
  result.notices.insert(result.notices.begin(), notices.begin(), notices.end());
  return frames_of({request, result, plan, recorder, device_title(device)}, family);
}

Pipeline& Session::pipeline_for(const Family& family, const Request& request, const RunContext& run) {
  const auto key = fmt::format("{}\n{}\n{}\n{}\n{}\n{}", request.model, request.variant, request.device,
                               request.dtype, request.offload, fmt::join(request.weights, "\n"));
  if (!loaded_.pipeline || loaded_.key != key) {
    loaded_ = {};  // before the next is opened: two need not fit
    loaded_.pipeline = family.open(request, run);
    loaded_.key = key;
  }
  std::vector<Request> expected;
  {
    const std::scoped_lock lock(jobs_mutex_);
    expected = expected_;
  }
  std::vector<Request> possible;
  for (auto& next : expected)
    if (next.model == request.model && resolves(family, next)) possible.push_back(std::move(next));
  loaded_.pipeline->expect(std::move(possible));
  return *loaded_.pipeline;
}

}  // namespace sagelab
