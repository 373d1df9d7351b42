// SPDX-License-Identifier: Apache-2.0
// What each action does.
#include <fmt/format.h>

#include <algorithm>

#include "app/batch/plan.h"
#include "app/failure.h"
#include "app/gui/program.h"
#include "app/gui/tasks/exports.h"
#include "app/replay/origin.h"
#include "ui/panels/exportable.h"

namespace sagelab::gui {

using Status = ui::Job::Status;
namespace act = ui::action;

namespace {

// Again exactly as it ran: the switches that took effect are planned.
Request repeated(const ui::Result& result) {
  Request request = result.frames.request;
  const auto switches = result.frames.report.value("switches", nlohmann::json::array());
  if (!switches.empty()) request.attention_at.clear();
  for (const auto& entry : switches) request.attention_at.push_back(entry.at("at"));
  return request;
}

// What of a prompt file can be made, and what is to be said of it.
struct Prompts {
  std::vector<Request> requests;
  std::vector<std::string> notices, left_out;  // with their lines
  size_t lines = 0;                            // that hold a prompt, or should
};

// Throws sagelab::Error where nothing of it can be made.
Prompts prompts_of(const std::string& file, Request base, const Family& family) {
  base.prompt.clear();
  base.output.clear();
  base.preview = 0;
  batch::Settings settings;
  settings.base = base;
  settings.folder = ".";
  auto read = batch::read_prompts(file);
  Prompts prompts{{}, std::move(read.notices), {}, read.prompts.size()};
  std::string hint;
  for (const auto& sample : batch::plan_samples(read.prompts, settings, family)) {
    const auto line = fmt::format("line {}: ", sample.prompt.line);
    if (prompts.left_out.empty()) hint = sample.hint;
    if (!sample.error.empty()) prompts.left_out.push_back(line + sample.error);
    for (const auto& notice : sample.notices) prompts.notices.push_back(line + notice);
    for (const auto& output : sample.outputs) {
      prompts.requests.push_back(output.request);
      prompts.requests.back().preview = 1;
    }
  }
  if (prompts.requests.empty()) throw Error(file + ", " + prompts.left_out.at(0), hint);
  return prompts;
}

ui::Dialog left_out_of(const std::string& file, const Prompts& prompts) {
  constexpr size_t kShown = 5;
  const auto& left = prompts.left_out;
  ui::Dialog dialog{ui::Dialog::Kind::Error, "Not all of the prompts can be made", {}, {}};
  dialog.what = fmt::format("{} of {} lines {} left out of {}", left.size(), prompts.lines,
                            left.size() == 1 ? "was" : "were", file);
  for (size_t i = 0; i < std::min(left.size(), kShown); ++i) dialog.hint += (i ? "\n" : "") + left[i];
  if (left.size() > kShown) dialog.hint += fmt::format("\nand {} more", left.size() - kShown);
  return dialog;
}

// What closing does to what goes on, as Session and Worker have it.
ui::Dialog close_question(const ui::State& state) {
  ui::Dialog dialog{ui::Dialog::Kind::CloseWhileBusy, "Still busy", {}, {}};
  if (state.running()) {
    dialog.what = "A run is going on.";
    dialog.hint = "Closing stops the run; it waits in the queue at the next start.";
  }
  const auto add = [](std::string& text, const std::string& more) {
    text += (text.empty() ? "" : " ") + more;
  };
  if (const auto& tasks = state.tasks; !tasks.empty()) {
    const auto others = tasks.size() - 1;
    const auto more = others ? fmt::format(", nor {} {} more", others == 1 ? "is" : "are", others) : "";
    add(dialog.what, fmt::format("'{}' is not finished{}.", tasks.front().what, more));
    add(dialog.hint,
        "A file that is being written is finished before the program ends; what waits for its "
        "turn, or is being read, is lost.");
  }
  return dialog;
}

}  // namespace

struct Program::Doing {
  Program& p;

  void error(const std::string& title, const std::string& what, const std::string& hint = {}) const {
    p.say({ui::Dialog::Kind::Error, title, what, hint});
  }
  bool can_generate() const {
    const auto* model = p.state_.model();
    if (!model || !model->problem.empty())
      error("Nothing to generate with", model ? model->problem : "no model is chosen",
            model ? model->hint : "open a model folder");
    else if (p.state_.request.prompt.empty())
      error("Nothing to generate", "the prompt is empty", "write what to show");
    else if (!p.state_.estimate.pending && !p.state_.estimate.error.empty())
      error("This cannot run", p.state_.estimate.error, p.state_.estimate.hint);
    else
      return !p.state_.closing;
    return false;
  }

  void operator()(const act::Edit& edit) const {
    p.state_.request = edit.request;
    p.request_changed();
  }
  void operator()(const act::SelectModel& what) const { p.select(what.path); }
  void operator()(const act::AddModelFolder& what) const {
    std::string path = what.path;
    while (path.size() > 1 && path.ends_with('/')) path.pop_back();
    p.add_model(path, true);
  }
  void operator()(const act::ForgetModel& what) const {
    std::erase_if(p.state_.models,
                  [&](const ui::ModelChoice& m) { return m.path == what.path && !m.bundled; });
    if (!p.state_.model() && !p.state_.models.empty()) p.select(p.state_.models.front().path);
    p.changed_ = true;
  }
  void operator()(const act::FitSize&) const {
    p.quick_.add("fit", [request = p.state_.request, find = p.setup_.find_family]() -> Apply {
      return [fitted = find(request.model).fit(request)](Program& program) {
        program.state_.request.width = fitted.width, program.state_.request.height = fitted.height;
        program.state_.request.num_frames = fitted.num_frames;
        program.request_changed();
      };
    });
  }
  void operator()(const act::RestoreFrom& what) const {
    p.start_task("reading " + what.file, [file = what.file]() -> Apply {
      auto request = origins_of(file).front().request;
      return [request](Program& program) { program.take_request(request); };
    });
  }
  void operator()(const act::ImportPrompts& what) const {
    p.start_task("reading " + what.file,
                 [file = what.file, base = p.state_.request, find = p.setup_.find_family]() -> Apply {
                   return [file, prompts = prompts_of(file, base, find(base.model))](Program& program) {
                     for (const auto& request : prompts.requests) program.add_job(request);
                     auto& log = program.state_.log;
                     for (const auto& notice : prompts.notices) log.push_back(notice);
                     if (!prompts.left_out.empty()) program.say(left_out_of(file, prompts));
                   };
                 });
  }

  void operator()(const act::Generate&) const {
    if (can_generate()) p.add_job(p.state_.request);
  }
  void operator()(const act::GenerateBoth& what) const {
    if (!can_generate() || what.specs.size() < 2) return;
    std::array<ui::Id, 3> shown{};
    Request request = p.state_.request;
    request.attention_at.clear();
    std::vector<ui::Id> others;
    for (size_t i = 0; i < what.specs.size(); ++i) {
      request.attention = what.specs[i];
      const auto id = p.add_job(request);
      if (i < shown.size()) shown[i] = id;
      others.push_back(i == 0 ? p.add_job(request, id) : id);
    }
    p.state_.compared = shown;
    p.comparisons_.begin(shown[0], others);
  }
  void operator()(const act::Cancel& what) const {
    auto* job = p.state_.job(what.job);
    if (!job) return;
    p.changed_ = true;
    if (job->status == Status::Waiting) job->status = Status::Cancelled;
    if (job->status != Status::Running) return;
    job->cancelling = true;
    p.session_.cancel(job->session);
  }
  void operator()(const act::Retry& what) const {
    auto& jobs = p.state_.jobs;
    const auto at =
        std::find_if(jobs.begin(), jobs.end(), [&](const ui::Job& j) { return j.id == what.job; });
    if (at == jobs.end() || at->status == Status::Running || at->status == Status::Waiting) return;
    if (at->status == Status::Done) {
      p.add_job(at->request);
      return;
    }
    ui::Job again;
    again.id = at->id, again.repeats = at->repeats, again.request = at->request, again.latents = at->latents;
    jobs.erase(at);
    jobs.push_back(std::move(again));
    p.changed_ = true;
  }
  void operator()(const act::Repeat& what) const {
    const auto* result = p.state_.result(what.result);
    const bool there = std::any_of(p.state_.jobs.begin(), p.state_.jobs.end(), [&](const ui::Job& j) {
      return j.repeats == what.result && j.status <= Status::Done;
    });
    if (result && !there) p.add_job(repeated(*result), what.result);
  }
  void operator()(const act::Move& what) const {
    auto& jobs = p.state_.jobs;
    auto at = std::find_if(jobs.begin(), jobs.end(), [&](const ui::Job& j) { return j.id == what.job; });
    for (int left = std::abs(what.by); at != jobs.end() && left > 0; --left) {
      if (what.by < 0 ? at == jobs.begin() : at + 1 == jobs.end()) return;
      const auto other = what.by < 0 ? at - 1 : at + 1;
      if (at->status != Status::Waiting || other->status != Status::Waiting) return;
      std::iter_swap(at, other);
      at = other;
      p.changed_ = true;
    }
  }
  void operator()(const act::Remove& what) const {
    const auto* job = p.state_.job(what.job);
    if (!job || job->status == Status::Running) return;
    const auto id = what.job;
    std::erase_if(p.state_.jobs, [&](const ui::Job& j) { return j.id == id; });
    std::erase_if(p.state_.results, [&](const ui::Result& r) { return r.id == id; });
    std::erase_if(p.state_.qualities, [&](const ui::PairQuality& q) { return q.a == id || q.b == id; });
    std::replace(p.state_.compared.begin(), p.state_.compared.end(), id, ui::Id(0));
    if (p.store_)
      p.slow_.add(
          "", [store = *p.store_, id]() -> Apply { return store.remove(id), Apply(); }, true);
    p.changed_ = true;
  }
  void operator()(const act::Pause& what) const {
    p.state_.paused = what.paused;
    p.changed_ = true;
  }

  void operator()(const act::SetAttention& what) const {
    auto* job = p.state_.running();
    if (!job || what.next) {
      p.state_.request.attention = what.spec;
      p.state_.request.attention_at.clear();
      p.request_changed();
      return;
    }
    try {
      if (p.session_.set_attention(what.spec))
        job->attention = what.spec;
      else
        p.state_.log.push_back("nothing to switch now: no step of this run is left, or it has not begun");
    } catch (const Error& e) {
      error("Attention stays as it is", e.what(), e.hint());
    }
  }
  void operator()(const act::SetPolicy& what) const {
    auto& painted = p.painted_.cells;
    const size_t shown = p.state_.policy.cells.size(), given = what.policy.cells.size();
    p.state_.policy = what.policy;
    // Where fewer steps show fewer ranges than there are, those that one stands for are painted with it.
    if (given != shown || painted.size() <= shown)
      p.painted_ = what.policy;
    else
      for (size_t c = 0; c < painted.size(); ++c) painted[c] = what.policy.cells[c * shown / painted.size()];
    p.changed_ = true;
  }
  void operator()(const act::Compare& what) const {
    p.state_.compared = what.ids;
    p.changed_ = true;
  }
  void operator()(const act::Measure& what) const { p.measure(what.a, what.b); }
  void operator()(const act::Export& what) const {
    if (const auto problem = ui::export_problem(p.state_, what.kind, what.results); !problem.empty()) {
      error("This cannot be exported", problem);
      return;
    }
    Export order{what.kind, {}, {}, {}, what.frame, what.path};
    for (const auto id : what.results)
      if (const auto* result = p.state_.result(id)) order.results.push_back(*result);
    for (const auto& result : p.state_.results)
      if (result.repeats == what.results.front()) order.again = result;
    const auto keep_errors = [&](const ui::Result& result) {
      const auto latents = p.comparisons_.errors(result.id);
      if (latents && latents->a == what.results.front()) order.latents[result.id] = latents->errors;
    };
    for (const auto& result : order.results) keep_errors(result);
    if (order.again) keep_errors(*order.again);
    p.start_task("writing " + what.path,
                 [order = std::move(order), id = what.results[0],
                  single = what.kind == act::Export::Kind::Mp4]() -> Apply {
                   return [path = write_export(order), id, single](Program& program) {
                     program.state_.log.push_back("written: " + path);
                     for (auto& result : program.state_.results)
                       if (single && result.id == id) result.saved = path;
                   };
                 });
  }

  void operator()(const act::DismissDialog&) const {
    if (!p.state_.dialogs.empty()) p.state_.dialogs.erase(p.state_.dialogs.begin());
  }
  void operator()(const act::Close&) const {
    auto& dialogs = p.state_.dialogs;
    const bool asked = std::any_of(dialogs.begin(), dialogs.end(), [](const ui::Dialog& d) {
      return d.kind == ui::Dialog::Kind::CloseWhileBusy;
    });
    if (p.state_.closing || asked) return;
    if (!p.state_.running() && p.state_.tasks.empty()) {
      p.state_.closing = true;
      return;
    }
    dialogs.insert(dialogs.begin(), close_question(p.state_));
  }
  void operator()(const act::CloseAnyway&) const {
    std::erase_if(p.state_.dialogs,
                  [](const ui::Dialog& d) { return d.kind == ui::Dialog::Kind::CloseWhileBusy; });
    p.state_.closing = true;
    if (auto* job = p.state_.running()) (*this)(act::Cancel{job->id});
  }
  void operator()(const act::KeepOpen&) const {
    std::erase_if(p.state_.dialogs,
                  [](const ui::Dialog& d) { return d.kind == ui::Dialog::Kind::CloseWhileBusy; });
  }
  void operator()(const act::SetLook& what) const {
    p.look_ = {what.dark, what.scale};
    p.changed_ = true;
  }
};

void Program::execute(const std::vector<ui::Action>& actions) {
  for (const auto& action : actions) std::visit(Doing{*this}, action);
}

}  // namespace sagelab::gui
