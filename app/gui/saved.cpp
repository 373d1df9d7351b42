// SPDX-License-Identifier: Apache-2.0
// What of a Program outlives it.
#include <algorithm>

#include "app/failure.h"
#include "app/gui/program.h"

namespace sagelab::gui {

using nlohmann::json;

namespace {

// Its ranges are as equal as they can be: their number tells where they begin.
json to_json(const ui::Policy& policy) {
  return {{"steps", policy.steps}, {"layers", policy.layers}, {"cells", policy.cells}};
}

// Throws std::out_of_range where cells are fewer than it has.
ui::Policy policy_from_json(const json& from) {
  const auto cells = from.at("cells").get<std::vector<std::vector<std::string>>>();
  auto policy = ui::make_policy(from.at("steps"), from.at("layers"), int(cells.size()), "");
  for (size_t c = 0; c < policy.cells.size(); ++c)
    for (size_t l = 0; l < policy.cells[c].size(); ++l) policy.cells[c][l] = cells[c].at(l);
  return policy;
}

}  // namespace

json Program::saved_state() const {
  json models = json::array(), jobs = json::array();
  for (const auto& model : state_.models)
    if (!model.bundled) models.push_back(model.path);
  for (const auto& job : state_.jobs)
    if (job.status != ui::Job::Status::Done) jobs.push_back(to_json(job));
  return {{"version", 1},
          {"last_id", last_id_},
          {"models", models},
          {"request", to_json(state_.request)},
          {"jobs", jobs},
          {"paused", state_.paused},
          {"policy", to_json(painted_)},
          {"compared", state_.compared},
          {"speeds", speeds_.json()},
          {"dark", look_.dark},
          {"scale", look_.scale}};
}

void Program::save() {
  changed_ = false;
  if (!store_) return;
  slow_.add(
      "save",
      [store = *store_, saved = saved_state()]() -> Apply {
        try {
          store.write_state(saved);
        } catch (const Error& e) {
          return [text = std::string(e.what())](Program& program) {
            if (program.state_.log.empty() || program.state_.log.back() != text)
              program.state_.log.push_back(text);
          };
        }
        return {};
      },
      true);
}

void Program::restore() {
  json saved;
  try {
    if (!setup_.folder.empty()) store_.emplace(setup_.folder);
    std::string problem;
    if (store_) saved = store_->read_state(problem);
    if (!problem.empty()) state_.log.push_back(problem);
    if (!saved.is_null()) restore_state(saved);
  } catch (...) {
    const auto failed = describe(std::current_exception());
    say({ui::Dialog::Kind::Error, "What was kept could not be read", failed.message,
         "the window starts without it"});
  }
  if (!setup_.bundled_model.empty()) add_model(setup_.bundled_model, state_.request.model.empty());
  if (store_) load_results();
}

void Program::restore_state(const json& saved) {
  try {
    last_id_ = saved.at("last_id");
    look_ = {saved.at("dark"), saved.at("scale")};
    speeds_.read(saved.at("speeds"));
    state_.request = request_from_json(saved.at("request"));
    state_.paused = saved.at("paused");
    saved.at("compared").get_to(state_.compared);
    const auto results = store_->results();
    for (const auto& entry : saved.at("jobs")) {
      auto job = job_from_json(entry);
      last_id_ = std::max(last_id_, job.id);
      if (std::binary_search(results.begin(), results.end(), job.id)) continue;  // it did finish
      // Latents that lie there are finished; then only decoding is left.
      std::error_code error;
      const auto latents = store_->latents(job.id);
      if (job.latents.empty() && std::filesystem::exists(latents, error)) job.latents = latents;
      state_.jobs.push_back(std::move(job));
    }
    // A job that brought the program down would do so again at once.
    if (state_.busy() && !state_.paused) {
      state_.paused = true;
      state_.log.push_back("the queue is as it was left; press play to go on");
    }
    for (const std::string path : saved.at("models")) add_model(path, false);
    if (saved.contains("policy")) state_.policy = painted_ = policy_from_json(saved.at("policy"));
  } catch (const std::out_of_range&) {
    state_.log.push_back("the policy is not as this version writes it");
  } catch (const json::exception&) {
    throw Error("state.json is not as this version writes it");
  }
}

void Program::load_results() {
  const auto ids = store_->results();
  if (ids.empty()) return;
  last_id_ = std::max(last_id_, ids.back());
  for (const auto id : ids)
    slow_.add("", [store = *store_, id]() -> Apply {
      auto finished = store.read_result(id);
      return [id, finished = std::move(finished)](Program& program) {
        auto& state = program.state_;
        const auto waiting = std::find_if(state.jobs.begin(), state.jobs.end(), [](const ui::Job& job) {
          return job.status == ui::Job::Status::Waiting || job.status == ui::Job::Status::Running;
        });
        state.jobs.insert(waiting, finished.job);
        state.results.push_back(finished.result);
        if (finished.latents) program.comparisons_.restore(id, *finished.latents);
        if (finished.result.repeats) program.measure(finished.result.id, finished.result.repeats);
      };
    });
}

}  // namespace sagelab::gui
