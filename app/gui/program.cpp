// SPDX-License-Identifier: Apache-2.0
#include "app/gui/program.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>

#include "app/compare/metrics.h"
#include "app/failure.h"
#include "app/system.h"

namespace sagelab::gui {
namespace {

constexpr auto kListening = std::chrono::milliseconds(200);  // how soon the program's end is noticed
constexpr double kMemoryEvery = 1;                           // seconds
constexpr size_t kMostSamples = 3600;
constexpr int kPolicyRanges = 3;

std::function<double()> running_clock() {
  return [start = std::chrono::steady_clock::now()] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
}

int64_t resident_bytes() {
  int64_t pages = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

int64_t taken_on_gpus() {
  int64_t taken = 0;
  for (const auto& device : devices())
    if (!device.device.is_cpu()) taken += device.total_bytes - device.free_bytes;
  return taken;
}

// The session's worker asks for the family before anything else. From then on it and the threads that compute
// for it, which it starts, leave the processor to the window where both want it.
Session::FindFamily behind_the_window(Session::FindFamily find) {
  return [find = std::move(find)](const std::filesystem::path& model) -> const Family& {
    constexpr int kNice = 5;
    ::setpriority(PRIO_PROCESS, 0, kNice);  // of this thread, as Linux has it
    return find(model);
  };
}

Worker::Failure failure_dialog(const char* title) {
  return [title](const std::exception_ptr& error) -> Apply {
    const auto failed = describe(error);
    return [failed, title](Program& program) {
      program.say({ui::Dialog::Kind::Error, title, failed.message, failed.hint});
    };
  };
}

}  // namespace

Program::Program(Setup setup)
    : setup_(std::move(setup)),
      inbox_(setup_.wake),
      session_(behind_the_window(setup_.find_family)),
      quick_(inbox_, failure_dialog("That did not work")),
      slow_(inbox_, failure_dialog("That did not work")) {
  if (!setup_.clock) setup_.clock = running_clock();
  state_.version = versions().at("sagelab");
  restore();
  quick_.add("", []() -> Apply {
    const auto all = devices();
    const auto title = device_title(all.back().device);
    return [title](Program& program) { program.state_.device = title; };
  });
  listener_ = std::jthread([this](const std::stop_token& stop) { listen(stop); });
}

Program::~Program() {
  listener_.request_stop();
  if (const auto* job = state_.running()) session_.cancel(job->session);
  if (changed_) save();
}

void Program::listen(const std::stop_token& stop) {
  while (!stop.stop_requested())
    if (auto progress = session_.wait(kListening))
      inbox_.post([progress = std::move(*progress)](Program& program) { program.fold_progress(progress); });
}

void Program::update() {
  state_.now = setup_.clock();
  for (const auto& apply : inbox_.take()) apply(*this);
  start_next();
  sample_memory();
  if (changed_) save();
}

void Program::fold_progress(const Progress& progress) {
  ui::fold(state_, progress);
  const bool ended =
      std::holds_alternative<Finished>(progress.what) || std::holds_alternative<Failed>(progress.what);
  if (!ended) return;
  const auto at = std::find_if(state_.jobs.begin(), state_.jobs.end(),
                               [&](const ui::Job& job) { return job.session == progress.job; });
  if (at != state_.jobs.end()) job_ended(*at);
}

void Program::job_ended(ui::Job& job) {
  using Status = ui::Job::Status;
  changed_ = true;
  job.session = 0;
  job.cancelling = false;
  comparisons_.ended(job.id);
  if (state_.closing && job.status == Status::Cancelled) job.status = Status::Waiting;
  if (job.status != Status::Done) return;
  const auto* result = state_.result(job.id);
  if (store_) {
    slow_.add(
        "",
        [store = *store_, finished = Store::Finished{*result, job, comparisons_.errors(job.id)}]() -> Apply {
          store.write_result(finished);
          std::error_code ignored;
          std::filesystem::remove(store.latents(finished.job.id), ignored);
          return {};
        },
        true);
    job.latents.clear();
  }
  if (job.repeats) measure(job.id, job.repeats);
  if (!result->frames.report.at("switches").empty()) return;  // its seconds are of no one backend
  quick_.add("",
             [request = result->frames.request, report = result->frames.report,
              find = setup_.find_family]() -> Apply {
               auto run = run_of(request, find(request.model).plan(request));
               const auto& seconds = report.at("seconds");
               run.denoise = seconds.at("denoise"), run.beside = double(seconds.at("total")) - run.denoise;
               return [run](Program& program) {
                 program.speeds_.add(run);
                 program.request_changed();
               };
             });
}

void Program::start_next() {
  using Status = ui::Job::Status;
  if (state_.closing || state_.paused || state_.running()) return;
  const auto next = std::find_if(state_.jobs.begin(), state_.jobs.end(),
                                 [](const ui::Job& job) { return job.status == Status::Waiting; });
  if (next == state_.jobs.end()) return;
  // Jobs that have begun stand before those that wait.
  Session::Latents latents;
  if (store_) latents.save = store_->latents(next->id);
  std::error_code error;
  if (!next->latents.empty() && std::filesystem::exists(next->latents, error)) latents.decode = next->latents;
  next->status = Status::Running;
  next->attention = next->request.attention;
  auto hooks = comparisons_.hooks(next->id, [this](ui::Id a) { return state_.result(a) != nullptr; });
  session_.expect({next->request});  // in a window another run may always follow
  next->session = session_.submit(next->request, latents, {}, std::move(hooks));
  changed_ = true;
  quick_.add(
      "", [id = next->id, request = next->request, find = setup_.find_family, speeds = speeds_]() -> Apply {
        return [id, expected = outlook_of(request, find, speeds).estimate.denoise](Program& program) {
          if (auto* job = program.state_.job(id)) job->expected = expected;
        };
      });
}

void Program::sample_memory() {
  if (state_.now - memory_at_ < kMemoryEvery && memory_at_ >= 0) return;
  memory_at_ = state_.now;
  const int64_t device = state_.memory.empty() ? 0 : state_.memory.back().device;
  state_.memory.push_back({state_.now, resident_bytes(), device});
  if (state_.memory.size() > kMostSamples) state_.memory.erase(state_.memory.begin());
  if (!state_.estimate.device.starts_with("cuda")) return;
  quick_.add("memory", []() -> Apply {
    return [taken = taken_on_gpus()](Program& program) { program.state_.memory.back().device = taken; };
  });
}

ui::Id Program::add_job(Request request, ui::Id repeats) {
  ui::Job job;
  job.id = ++last_id_;
  job.repeats = repeats;
  job.request = std::move(request);
  job.request.output.clear();
  job.request.latents.clear();
  state_.jobs.push_back(job);
  changed_ = true;
  // What one asks for is what one sees, but for a comparison that somebody looks at.
  auto& shown = state_.compared;
  const auto count = std::count_if(shown.begin(), shown.end(), [](ui::Id id) { return id != 0; });
  if (!repeats && count <= 1) shown = {job.id};
  return job.id;
}

void Program::add_model(const std::string& path, bool select_it) {
  const auto known = std::find_if(state_.models.begin(), state_.models.end(),
                                  [&](const ui::ModelChoice& model) { return model.path == path; });
  if (known == state_.models.end()) {
    ui::ModelChoice choice;
    choice.path = path, choice.label = std::filesystem::path(path).filename().string();
    choice.bundled = path == setup_.bundled_model;
    state_.models.push_back(choice);
  }
  quick_.add("", [path, select_it, find = setup_.find_family, bundled = setup_.bundled_model]() -> Apply {
    auto choice = path == bundled ? bundled_choice(path, find) : model_choice(path, find);
    return [choice, select_it](Program& program) {
      for (auto& model : program.state_.models)
        if (model.path == choice.path) model = choice;
      const bool edited = program.state_.request.model == choice.path;
      if (edited) program.state_.presets = presets_of(choice);
      if (select_it) program.select(choice.path);
      program.changed_ = true;
    };
  });
}

void Program::select(const std::string& path) {
  const auto model = std::find_if(state_.models.begin(), state_.models.end(),
                                  [&](const ui::ModelChoice& m) { return m.path == path; });
  if (model == state_.models.end()) return;
  Request request = model->shown;
  const auto* before = state_.model();
  const bool suggested = before && state_.request.prompt == before->shown.prompt;
  if (!state_.request.prompt.empty() && (!suggested || request.prompt.empty()))
    request.prompt = state_.request.prompt;
  request.negative_prompt = state_.request.negative_prompt;
  request.seed = state_.request.seed;
  state_.request = request;
  state_.presets = presets_of(*model);
  request_changed();
}

void Program::take_request(const Request& request) {
  state_.request = request;
  state_.request.output.clear();
  state_.request.latents.clear();
  state_.request.preview = 1;
  add_model(request.model, false);
  request_changed();
}

void Program::request_changed() {
  changed_ = true;
  if (state_.request.model.empty()) return;
  state_.estimate.pending = true;
  const auto edit = ++edits_;
  quick_.add("outlook",
             [edit, request = state_.request, find = setup_.find_family, speeds = speeds_]() -> Apply {
               auto outlook = outlook_of(request, find, speeds);
               return [edit, outlook = std::move(outlook)](Program& program) {
                 if (edit == program.edits_) program.outlook_came(outlook);
               };
             });
}

void Program::outlook_came(Outlook outlook) {
  if (!outlook.estimate.error.empty()) {
    // What is wrong is not the prompt, as a rule: its tokens go on being shown.
    outlook.estimate.prompt_tokens = state_.estimate.prompt_tokens;
    outlook.estimate.token_limit = state_.estimate.token_limit;
  }
  state_.estimate = outlook.estimate;
  if (!outlook.backends.empty()) state_.backends = std::move(outlook.backends);
  const auto& estimate = state_.estimate;
  const auto& policy = state_.policy;
  if (estimate.steps < 1 || (policy.steps == estimate.steps && policy.layers == estimate.layers)) return;
  if (painted_.layers != estimate.layers) {
    const auto* model = state_.model();
    const auto spec = model && !model->defaults.attention.empty() ? model->defaults.attention : "sdpa";
    painted_ = ui::make_policy(estimate.steps, estimate.layers, kPolicyRanges, spec);
  }
  // Of the painted one, so that while a number is typed its first digit takes no range away.
  state_.policy = ui::with_steps(painted_, estimate.steps);
}

void Program::measure(ui::Id a, ui::Id b) {
  const auto *first = state_.result(a), *second = state_.result(b);
  if (!first || !second || state_.quality(a, b)) return;
  state_.qualities.push_back({a, b, true, {}, {}, 0, {}});
  slow_.add("", [a, b, x = first->frames.picture, y = second->frames.picture]() -> Apply {
    ui::PairQuality found{a, b, false, {}, {}, 0, {}};
    try {
      const auto quality = quality_of(*x, *y);
      found.psnr = quality.psnr, found.ssim = quality.ssim, found.identical_frames = quality.identical_frames;
    } catch (const Error& e) {
      found.problem = e.what();
    }
    return [found](Program& program) {
      for (auto& known : program.state_.qualities)
        if (known.a == found.a && known.b == found.b) known = found;
    };
  });
}

void Program::start_task(const std::string& what, Work work) {
  const ui::Id id = ++last_task_;
  state_.tasks.push_back({id, what});
  slow_.add("", [id, work = std::move(work)]() -> Apply {
    Apply apply;
    try {
      apply = work();
    } catch (...) {
      apply = failure_dialog("That did not work")(std::current_exception());
    }
    return [id, apply](Program& program) {
      program.task_done(id);
      if (apply) apply(program);
    };
  });
}

void Program::task_done(ui::Id task) {
  std::erase_if(state_.tasks, [&](const ui::Task& t) { return t.id == task; });
}

bool Program::finished() const {
  return state_.closing && !state_.running();
}

void Program::wait_idle() {
  quick_.wait_idle();
  slow_.wait_idle();
}

}  // namespace sagelab::gui
