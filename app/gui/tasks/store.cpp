// SPDX-License-Identifier: Apache-2.0
#include "app/gui/tasks/store.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "app/failure.h"
#include "app/media/file.h"

namespace sagelab::gui {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string read_bytes(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::stringstream bytes;
  bytes << in.rdbuf();
  if (!in) throw Error("cannot read " + file.string());
  return bytes.str();
}

double number(const json& value) {
  return value.is_number() ? value.get<double>() : NAN;
}

json steps_json(const ui::Job& job) {
  json all = json::array();
  for (const auto& step : job.step_times) all.push_back({step.seconds, step.backend});
  return all;
}

json phases_json(const ui::Job& job) {
  json all = json::array();
  for (const auto& phase : job.phases)
    all.push_back({phase.name, phase.begun, phase.ended, phase.i, phase.n});
  return all;
}

json measured_json(const ui::Job& job) {
  json all = json::array();
  for (const auto& m : job.measured)
    all.push_back({m.step, m.layer, m.a, m.b, m.cosine, m.relative_l1, m.rmse, m.max_abs});
  return all;
}

void read_course(const json& from, ui::Job& job) {
  for (const auto& step : from.at("step_times")) job.step_times.push_back({step.at(0), step.at(1)});
  for (const auto& mark : from.at("switches")) job.switches.push_back({mark.at(0), mark.at(1), mark.at(2)});
  for (const auto& phase : from.at("phases"))
    job.phases.push_back({phase.at(0), number(phase.at(1)), number(phase.at(2)), phase.at(3), phase.at(4)});
  for (const auto& m : from.at("measured"))
    job.measured.push_back({m.at(0), m.at(1), m.at(2), m.at(3), number(m.at(4)), number(m.at(5)),
                            number(m.at(6)), number(m.at(7))});
  from.at("notices").get_to(job.notices);
}

}  // namespace

fs::path state_folder() {
  if (const char* state = std::getenv("XDG_STATE_HOME"); state && *state) return fs::path(state) / "sagelab";
  if (const char* home = std::getenv("HOME"); home && *home)
    return fs::path(home) / ".local" / "state" / "sagelab";
  throw Error("there is no place for the window's state: neither XDG_STATE_HOME nor HOME is set",
              "set one of them");
}

json to_json(const ui::Job& job) {
  json switches = json::array();
  for (const auto& mark : job.switches) switches.push_back({mark.step, mark.from, mark.to});
  return {{"id", job.id},
          {"repeats", job.repeats},
          {"request", to_json(job.request)},
          {"status", ui::name_of(job.status)},
          {"attention", job.attention},
          {"steps", job.steps},
          {"step_times", steps_json(job)},
          {"switches", switches},
          {"phases", phases_json(job)},
          {"measured", measured_json(job)},
          {"notices", job.notices},
          {"latents", job.latents},
          {"what", job.what},
          {"hint", job.hint}};
}

ui::Job job_from_json(const json& from) {
  using Status = ui::Job::Status;
  ui::Job job;
  job.id = from.at("id");
  job.repeats = from.at("repeats");
  job.request = request_from_json(from.at("request"));
  job.latents = from.at("latents");
  const std::string status = from.at("status");
  for (const auto known : {Status::Done, Status::Failed, Status::Cancelled})
    if (status == ui::name_of(known)) job.status = known;
  if (job.status == Status::Waiting) return job;
  job.what = from.at("what");
  job.hint = from.at("hint");
  job.attention = from.at("attention");
  job.steps = from.at("steps");
  read_course(from, job);
  return job;
}

Store::Store(fs::path folder) : folder_(std::move(folder)) {
  std::error_code error;
  for (const auto& made : {folder_, folder_ / "latents", folder_ / "results"}) {
    fs::create_directories(made, error);
    if (error) cannot_write(made, error.value());
  }
}

fs::path Store::file(ui::Id id, const char* ending) const {
  return folder_ / "results" / fmt::format("{}{}", id, ending);
}

std::string Store::latents(ui::Id id) const {
  return (folder_ / "latents" / fmt::format("{}.safetensors", id)).string();
}

void Store::write_state(const json& state) const {
  media::write_whole(folder_ / "state.json", json_text(state, 1) + "\n");
}

json Store::read_state(std::string& problem) const {
  const auto file = folder_ / "state.json";
  std::error_code error;
  if (!fs::exists(file, error)) return {};
  auto state = json::parse(read_bytes(file), nullptr, false);
  if (state.is_object()) return state;
  const auto aside = free_name(folder_ / "state.damaged.json");
  fs::rename(file, aside, error);
  problem = "the window's state could not be read; the file is now " + aside.string();
  return {};
}

void Store::write_result(const Finished& finished) const {
  const auto& result = finished.result;
  const auto& picture = *result.frames.picture;
  const json all{{"job", to_json(finished.job)},
                 {"latents", finished.latents ? to_json(*finished.latents) : json()},
                 {"title", result.title},
                 {"repeats", result.repeats},
                 {"emulated", result.emulated},
                 {"median_step", result.median_step},
                 {"frames", picture.frames},
                 {"height", picture.height},
                 {"width", picture.width},
                 {"fps", result.frames.fps},
                 {"request", sagelab::to_json(result.frames.request)},
                 {"report", result.frames.report}};
  media::write_whole(file(result.id, ".rgb"),
                     {reinterpret_cast<const char*>(picture.pixels.data()), picture.pixels.size()});
  media::write_whole(file(result.id, ".json"), json_text(all, 1) + "\n");
}

Store::Finished Store::read_result(ui::Id id) const {
  const auto named = file(id, ".json");
  try {
    const auto all = json::parse(read_bytes(named));
    Finished finished;
    finished.job = job_from_json(all.at("job"));
    auto& result = finished.result;
    result.id = id;
    result.title = all.at("title");
    result.repeats = all.at("repeats");
    result.emulated = all.at("emulated");
    result.median_step = number(all.at("median_step"));
    auto picture = std::make_shared<Picture>();
    picture->frames = all.at("frames"), picture->height = all.at("height"), picture->width = all.at("width");
    const auto bytes = read_bytes(file(id, ".rgb"));
    picture->pixels.assign(bytes.begin(), bytes.end());
    if (picture->frames < 1 || picture->height < 1 || picture->width < 1 ||
        picture->pixels.size() != size_t(picture->frames) * picture->height * picture->width * 3)
      throw Error(file(id, ".rgb").string() + " is not as long as its frames are");
    result.frames.picture = std::move(picture);
    result.frames.fps = all.at("fps");
    result.frames.request = request_from_json(all.at("request"));
    result.frames.report = all.at("report");
    if (all.contains("latents") && !all.at("latents").is_null())
      finished.latents = latent_errors_from_json(all.at("latents"));
    return finished;
  } catch (const json::exception&) {
    throw Error(named.string() + " is damaged");
  }
}

std::vector<ui::Id> Store::results() const {
  std::vector<ui::Id> ids;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder_ / "results", error)) {
    const auto stem = entry.path().stem().string();
    ui::Id id = 0;
    const auto [end, wrong] = std::from_chars(stem.data(), stem.data() + stem.size(), id);
    if (entry.path().extension() == ".json" && wrong == std::errc() && *end == 0) ids.push_back(id);
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

void Store::remove(ui::Id id) const {
  std::error_code ignored;
  for (const auto& path : {fs::path(latents(id)), file(id, ".rgb"), file(id, ".json")})
    fs::remove(path, ignored);
}

}  // namespace sagelab::gui
