// SPDX-License-Identifier: Apache-2.0
#include "app/batch/runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <set>
#include <utility>

#include "app/compare/metrics.h"
#include "app/failure.h"
#include "app/media/file.h"
#include "app/media/output.h"
#include "app/report/median.h"
#include "app/report/report.h"

namespace sagelab::batch {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

// How many samples ahead prompts are encoded: some hundred MB at most.
constexpr size_t kAhead = 64;

// Mean and worst of the frames whose value is finite: those that differ, for PSNR.
json mean_and_worst(const std::vector<double>& values) {
  double sum = 0, worst = INFINITY;
  int count = 0;
  for (const double value : values) {
    if (!std::isfinite(value)) continue;
    sum += value, count += 1;
    worst = std::min(worst, value);
  }
  if (count == 0) return {{"mean", nullptr}, {"worst", nullptr}};
  return {{"mean", sum / count}, {"worst", worst}};
}

json quality_json(const Picture& picture, const Picture& reference) {
  const auto quality = quality_of(picture, reference);
  return {{"frames", quality.psnr.size()},
          {"identical_frames", quality.identical_frames},
          {"psnr", mean_and_worst(quality.psnr)},
          {"ssim", mean_and_worst(quality.ssim)}};
}

// What of a run's report is kept.
json run_json(const json& report) {
  std::vector<double> steps;
  for (const auto& step : report.at("steps")) steps.push_back(step.at("seconds"));
  json run{{"seconds", report.at("seconds")}, {"served", json::array()}};
  // The first step warms up caches and kernels.
  const std::vector<double> typical(steps.begin() + (steps.size() > 2 ? 1 : 0), steps.end());
  run["seconds"]["median_step"] = typical.empty() ? json() : json(median(typical));
  bool sage = false;
  for (const auto& [name, calls] : report.at("attention").at("served").items()) {
    run["served"].push_back(name);
    sage = sage || name.starts_with("sage2");
  }
  run["emulated"] = sage && report.at("request").at("device") == "cpu";
  run["fallback_calls"] = report.at("attention").at("fallback_calls");
  run["peak_bytes"] = report.at("memory").at("peak_bytes");
  run["device"] = report.at("device");
  if (!report.at("notices").empty()) run["notices"] = report.at("notices");
  return run;
}

json size_of(const fs::path& file) {
  std::error_code error;
  const auto bytes = fs::file_size(file, error);
  return error ? json() : json(bytes);
}

// Throws where the place of a sample has no room for its pictures as they are and what stands beside them:
// then those that follow would fail as it did, one after the other.
void require_room(const Sample& sample) {
  constexpr int64_t kBeside = 1 << 16;  // bytes: latents of small pictures, the record, the index
  for (const auto& [request, file] : sample.outputs) {
    const int64_t pixels =
        int64_t(request.width.value()) * request.height.value() * request.num_frames.value();
    media::probe_file(media::Output(request.output).latents_beside(), 3 * pixels + kBeside);
  }
}

// Of a run whose output is there, or that will be made again; file: null or empty where there are none.
void remove_latents(const json& file) {
  std::error_code ignored;
  if (file.is_string() && file != "") fs::remove(file.get<std::string>(), ignored);
}

void note_failure(json& record, const Failed& failed) {
  record["error"] = failed.message;
  record["hint"] = failed.hint;
  if (!failed.latents.empty()) record["latents"] = failed.latents;
}

// A failed output's, in one line.
std::string told(const json& record) {
  auto text = record.at("error").get<std::string>();
  if (record.at("hint") != "") text += "; " + record.at("hint").get<std::string>();
  if (record.contains("latents"))
    text += "; the finished latents are in " + record.at("latents").get<std::string>();
  return text;
}

}  // namespace

bool is_made(const json& record, const fs::path& folder) {
  if (record.at("status") != "done") return false;
  for (const auto& output : record.at("outputs")) {
    const auto file = folder / output.at("file").get<std::string>();
    if (!fs::exists(file) || (fs::is_regular_file(file) && size_of(file) != output.at("bytes"))) return false;
  }
  return true;
}

void remove_drafts(const std::vector<Sample>& samples) {
  std::set<fs::path> folders;
  std::set<std::string> ours;  // ".sample_0000.mp4."
  for (const auto& sample : samples)
    for (const auto& output : sample.outputs) {
      const media::Output target(output.request.output);
      folders.insert(target.path().parent_path());
      for (const auto& path : {target.path(), target.latents_beside()})
        ours.insert(fmt::format(".{}.", path.filename().string()));
    }
  for (const auto& place : folders) {
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(place, ignored)) {
      const auto name = entry.path().filename().string();
      // ".sample_0000.mp4.1234-0.part"
      const auto stem = name.substr(0, name.size() - std::min<size_t>(name.size(), 5));
      const auto dot = stem.rfind('.');
      if (name.ends_with(".part") && dot != std::string::npos && ours.contains(stem.substr(0, dot + 1)))
        fs::remove_all(entry.path(), ignored);
    }
  }
}

Runner::Runner(Session& session, Manifest& manifest, BatchProgress& progress, fs::path folder)
    : session_(session), manifest_(manifest), progress_(progress), folder_(std::move(folder)) {}

Tally Runner::run(const std::vector<Sample>& samples, const Hooks& hooks) {
  hooks_ = hooks;
  Tally tally;
  for (size_t i = 0; i < samples.size(); ++i) {
    const auto& sample = samples[i];
    const auto known = manifest_.records().find(sample.key());
    if (known != manifest_.records().end() && is_made(known->second, folder_)) {
      tally.there += 1;
      continue;
    }
    try {
      if (hooks_.stop()) throw Cancelled();
      announce(samples, i);
      const bool done = make(sample, fmt::format("{}/{}", i + 1, samples.size()));
      (done ? tally.made : tally.failed) += 1;
      if (!done) require_room(sample);
      hooks_.recorded();
    } catch (const Cancelled&) {
      tally.cancelled = true;
      break;
    }
  }
  session_.expect({});
  return tally;
}

void Runner::announce(const std::vector<Sample>& samples, size_t from) {
  std::vector<Request> next;
  for (size_t i = from; i < std::min(samples.size(), from + kAhead); ++i) {
    const auto known = manifest_.records().find(samples[i].key());
    const bool made = known != manifest_.records().end() && is_made(known->second, folder_);
    if (!made && !samples[i].outputs.empty()) next.push_back(samples[i].outputs.front().request);
  }
  session_.expect(std::move(next));
}

bool Runner::make(const Sample& sample, const std::string& count) {
  auto record = sample.record();
  bool done = sample.error.empty();
  if (!done)
    progress_.note(fmt::format("line {}: {}{}{}", sample.prompt.line, sample.error,
                               sample.hint.empty() ? "" : "; ", sample.hint));
  for (const auto& notice : sample.notices)
    progress_.note(fmt::format("line {}: {}", sample.prompt.line, notice));
  std::shared_ptr<const Picture> first;
  for (size_t i = 0; i < sample.outputs.size(); ++i) {
    const auto& output = sample.outputs[i];
    auto& entry = record["outputs"][i];
    progress_.begin(count, output.file, sample.work() / double(sample.outputs.size()));
    auto picture = make(output, i > 0 ? first.get() : nullptr, entry);
    progress_.end();
    if (!picture) {
      done = false;
      progress_.note(fmt::format("line {}: {}: {}", sample.prompt.line, output.file, told(entry)));
    }
    if (i == 0) first = std::move(picture);
  }
  record["status"] = done ? "done" : "failed";
  manifest_.append(record);
  return done;
}

std::shared_ptr<const Picture> Runner::make(const Output& output, const Picture* reference, json& record) {
  json finished_latents;  // where they are, from sampling's end until the output is written
  try {
    const media::Output target(output.request.output);
    target.probe();
    const auto latents = target.latents_beside();
    auto end = follow(session_.submit(output.request, {.save = latents.string(), .decode = {}}));
    if (const auto* failed = std::get_if<Failed>(&end)) {
      if (failed->cancelled) {
        remove_latents(failed->latents);
        throw Cancelled();
      }
      note_failure(record, *failed);
      return nullptr;
    }
    auto& frames = std::get<Finished>(end).frames;
    auto run = run_json(frames.report);
    const auto start = Clock::now();
    finished_latents = frames.report.at("latents");
    const bool written = target.write(frames, metadata_of(frames), hooks_.stop);
    remove_latents(std::exchange(finished_latents, nullptr));
    if (!written) throw Cancelled();
    run["seconds"]["write"] = std::chrono::duration<double>(Clock::now() - start).count();
    run["bytes"] = size_of(target.path());
    if (reference) run["quality"] = quality_json(*frames.picture, *reference);
    record.update(run);
    return frames.picture;
  } catch (const Cancelled&) {
    throw;
  } catch (...) {
    auto failed = describe(std::current_exception());
    if (finished_latents.is_string()) failed.latents = finished_latents.get<std::string>();
    note_failure(record, failed);
    return nullptr;
  }
}

Runner::End Runner::follow(JobId job) {
  bool cancelled = false;
  for (;;) {
    if (!cancelled && hooks_.stop()) {
      session_.cancel(job);
      cancelled = true;
    }
    auto progress = session_.wait(std::chrono::milliseconds(50));
    if (!progress) continue;
    progress_.show(*progress);
    if (const auto* notice = std::get_if<Notice>(&progress->what)) progress_.note(notice->text);
    if (auto* finished = std::get_if<Finished>(&progress->what)) return std::move(*finished);
    if (auto* failed = std::get_if<Failed>(&progress->what)) return std::move(*failed);
  }
}

}  // namespace sagelab::batch
