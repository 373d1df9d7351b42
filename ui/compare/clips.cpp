// SPDX-License-Identifier: Apache-2.0
#include "ui/compare/clips.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "ui/compare/maths/strip.h"

namespace sagelab::ui {
namespace {

Clip clip_of(const Result& result, char letter) {
  const auto& picture = result.frames.picture;
  return {result.id, letter, picture, {result.frames.fps, picture ? picture->frames : 0}, false};
}

Clip clip_of(const Job& job, char letter) {
  constexpr double kUsualFps = 8;
  double fps = job.request.fps.value_or(kUsualFps);
  const int frames = job.preview ? job.preview->frames : 0;
  if (job.request.num_frames && *job.request.num_frames > 0) fps *= double(frames) / *job.request.num_frames;
  return {job.id, letter, job.preview, {fps, frames}, true};
}

double median_step(const State& state, const Clip& clip) {
  if (const auto* result = state.result(clip.id)) return result->median_step;
  const auto* job = state.job(clip.id);
  // What is checked runs twice: its steps say nothing of the clock.
  if (!job || job->attention.starts_with("check(")) return NAN;
  return job->median_step();
}

bool emulated(const State& state, const Clip& clip) {
  if (const auto* result = state.result(clip.id)) return result->emulated;
  const auto* job = state.job(clip.id);
  if (!job || job->request.device != "cpu") return false;
  return std::any_of(job->step_times.begin(), job->step_times.end(),
                     [](const StepTime& step) { return step.backend.find("sage2") != std::string::npos; });
}

const Request* request_of(const State& state, const Clip& clip) {
  if (const auto* result = state.result(clip.id)) return &result->frames.request;
  const auto* job = state.job(clip.id);
  return job ? &job->request : nullptr;
}

bool same_work(const State& state, const Clip& x, const Clip& y) {
  const auto *a = request_of(state, x), *b = request_of(state, y);
  if (!a || !b) return false;
  const auto work = [](const Request& r) {
    return std::tie(r.model, r.width, r.height, r.num_frames, r.guidance_scale, r.dtype, r.device, r.options,
                    r.offload);
  };
  return work(*a) == work(*b);
}

}  // namespace

std::vector<Clip> clips_of(const State& state) {
  std::vector<Clip> clips;
  for (size_t i = 0; i < state.compared.size(); ++i) {
    const char letter = char('A' + i);
    const auto* result = state.result(state.compared[i]);
    const auto* job = state.job(state.compared[i]);
    if (!result && !job) continue;
    auto clip = result ? clip_of(*result, letter) : clip_of(*job, letter);
    if (clip.picture && clip.time.frames > 0) clips.push_back(std::move(clip));
  }
  return clips;
}

std::vector<std::string> missing_of(const State& state) {
  std::vector<std::string> all;
  for (size_t i = 0; i < state.compared.size(); ++i) {
    const auto* job = state.job(state.compared[i]);
    if (!job || state.result(job->id) || job->preview) continue;
    const char letter = char('A' + i);
    if (job->status == Job::Status::Running) {
      all.push_back(fmt::format("{}: {}", letter, job->phase()));
    } else if (job->status == Job::Status::Waiting) {
      all.push_back(fmt::format("{}: waits for its turn", letter));
    } else {
      all.push_back(fmt::format("{}: {}", letter, name_of(job->status)));
    }
  }
  return all;
}

std::vector<Id> unfinished_of(const State& state) {
  std::vector<Id> ids;
  for (const Id id : state.compared)
    if (state.job(id) && !state.result(id)) ids.push_back(id);
  return ids;
}

ClipTime leading(const std::vector<Clip>& clips) {
  constexpr double kSame = 1e-6;  // seconds
  ClipTime best{8, 0};
  for (const auto& clip : clips) {
    const double longer = seconds_of(clip.time) - seconds_of(best);
    if (longer > kSame || (longer > -kSame && clip.time.fps > best.fps)) best = clip.time;
  }
  return best;
}

Extent extent_of(const std::vector<Clip>& clips) {
  Extent extent;
  for (const auto& clip : clips) {
    extent.width = std::max(extent.width, double(clip.picture->width));
    extent.height = std::max(extent.height, double(clip.picture->height));
  }
  return extent;
}

Shot shot_of(const Clip& clip, double seconds) {
  return {clip.picture, frame_at(clip.time, seconds)};
}

std::string title_of(const State& state, const Clip& clip) {
  if (const auto* result = state.result(clip.id)) return fmt::format("{}  {}", clip.letter, result->title);
  const auto* job = state.job(clip.id);
  if (!job) return std::string(1, clip.letter);
  const auto text =
      fmt::format("{}  {}, step {} of {}", clip.letter, job->attention, job->step_times.size(), job->steps);
  return job->status == Job::Status::Running ? text : text + ", " + name_of(job->status);
}

std::string speed_text(const State& state, const Clip& clip, const Clip& first) {
  const double seconds = median_step(state, clip), base = median_step(state, first);
  if (!(seconds > 0)) return "";
  std::string text = step_text(seconds) + " a step";
  if (emulated(state, clip)) return text + ", emulated on the CPU: no measure of its speed";
  if (clip.id == first.id || emulated(state, first) || !(base > 0) || !same_work(state, clip, first))
    return text;
  return text + fmt::format(", {:.2f}x as fast as {}", base / seconds, first.letter);
}

std::string readout(const std::vector<Clip>& clips, double seconds, Point at) {
  const Extent extent = extent_of(clips);
  if (at.x < 0 || at.y < 0 || at.x >= extent.width || at.y >= extent.height) return "";
  std::string values, differences;
  std::optional<Rgb> first;
  for (const auto& clip : clips) {
    const auto value = value_at(shot_of(clip, seconds), extent, at);
    if (!value) continue;
    values += fmt::format("   {} {} {} {}", clip.letter, (*value)[0], (*value)[1], (*value)[2]);
    if (first) {
      const auto d = difference(*value, *first);
      differences +=
          fmt::format("   {}-{} {:+} {:+} {:+}", clip.letter, clips.front().letter, d[0], d[1], d[2]);
    } else {
      first = value;
    }
  }
  return fmt::format("x {} y {}", int(at.x), int(at.y)) + values + differences;
}

std::string widest_readout(const std::vector<Clip>& clips) {
  const Extent extent = extent_of(clips);
  auto text = fmt::format("x {} y {}", int(extent.width), int(extent.height));
  for (const auto& clip : clips) text += fmt::format("   {} 888 888 888", clip.letter);
  for (size_t i = 1; i < clips.size(); ++i)
    text += fmt::format("   {}-{} -888 -888 -888", clips[i].letter, clips.front().letter);
  return text;
}

std::vector<std::pair<Id, Id>> to_measure(const State& state, const std::vector<Clip>& clips) {
  std::vector<std::pair<Id, Id>> pairs;
  if (clips.empty() || clips.front().making) return pairs;
  const auto wanted = [&](Id a, Id b) {
    if (a != b && !state.quality(a, b)) pairs.emplace_back(a, b);
  };
  const Id first = clips.front().id;
  for (const auto& clip : clips)
    if (!clip.making) wanted(clip.id, first);
  for (const auto& again : state.results)
    if (again.repeats == first) wanted(again.id, first);
  return pairs;
}

}  // namespace sagelab::ui
