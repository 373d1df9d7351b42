// SPDX-License-Identifier: Apache-2.0
#include "app/report/report.h"

#include <fmt/format.h>

#include <filesystem>
#include <set>

#include "app/failure.h"
#include "app/report/switches.h"
#include "app/system.h"
#include "pipelines/core/memory.h"

namespace sagelab {
namespace {

using nlohmann::json;

json site_json(const attention::Site& site) {
  return {{"step", site.step},
          {"layer", site.layer},
          {"branch", attention::to_string(site.branch)},
          {"block", site.block}};
}

// Those that timed() measured: of the others, served and spans say everything.
json calls_json(const attention::Recorder& recorder) {
  json calls = json::array();
  for (const auto& call : recorder.calls()) {
    if (!call.seconds) continue;
    json entry = site_json(call.site);
    entry.update({{"backend", call.backend}, {"fused", call.fused}, {"seconds", *call.seconds}});
    calls.push_back(std::move(entry));
  }
  return calls;
}

json attention_json(const attention::Recorder& recorder) {
  json served = json::object(), spans = json::array(), fallbacks = json::array(),
       measurements = json::array();
  for (const auto& [backend, s] : recorder.served())
    served[backend] = {{"calls", s.calls}, {"fused", s.fused}, {"seconds", s.seconds}};
  for (const auto& s : recorder.spans())
    spans.push_back({{"steps", {s.first_step, s.last_step}},
                     {"layers", {s.first_layer, s.last_layer}},
                     {"branch", attention::to_string(s.branch)},
                     {"backend", s.backend}});
  for (const auto& f : recorder.fallbacks())
    fallbacks.push_back({{"from", f.from}, {"to", f.to}, {"reason", f.reason}, {"first", site_json(f.site)}});
  for (const auto& m : recorder.measurements())
    measurements.push_back({{"site", site_json(m.site)},
                            {"a", m.a},
                            {"b", m.b},
                            {"cosine", m.errors.cosine},
                            {"relative_l1", m.errors.relative_l1},
                            {"rmse", m.errors.rmse},
                            {"max_abs", m.errors.max_abs}});
  return {{"served", served},
          {"spans", spans},
          {"calls", calls_json(recorder)},
          {"fallbacks", fallbacks},
          {"fallback_calls", recorder.fallback_count()},
          {"measurements", measurements}};
}

json memory_json(const ReportInput& input) {
  int64_t peak = 0;
  json by_phase = json::object();
  for (const auto& [phase, bytes] : input.result.peak_by_phase) {
    by_phase[phase] = bytes;
    peak = std::max(peak, bytes);
  }
  return {{"peak_bytes", peak},
          {"peak_bytes_by_phase", by_phase},
          {"predicted_peak_bytes", input.plan.peak_bytes()},
          {"process_peak_bytes", process_peak_bytes()}};
}

json seconds_json(const Timings& t) {
  return {{"load", t.load},
          {"encode", t.encode},
          {"denoise", t.denoise},
          {"decode", t.decode},
          {"total", t.total}};
}

// backend: as it was asked for; served: who did serve.
json steps_json(const ReportInput& input) {
  const auto spans = input.recorder.spans();
  json steps = json::array();
  for (const auto& step : input.result.timings.steps) {
    const int i = int(steps.size());
    std::set<std::string> served;
    for (const auto& span : spans)
      if (span.first_step <= i && i <= span.last_step) served.insert(span.backend);
    steps.push_back({{"seconds", step.seconds}, {"backend", step.backend}, {"served", served}});
  }
  return steps;
}

}  // namespace

json make_report(const ReportInput& input) {
  const auto& picture = *input.result.picture;
  return {{"request", to_json(input.request)},
          {"versions", versions()},
          {"device", input.device},
          {"seconds", seconds_json(input.result.timings)},
          {"steps", steps_json(input)},
          {"attention", attention_json(input.recorder)},
          {"switches", switches_json(input.result.switches, input.result.timings.steps)},
          {"memory", memory_json(input)},
          {"notices", input.result.notices},
          {"latents", input.result.latents_file.empty() ? json() : json(input.result.latents_file)},
          {"frames",
           {{"count", picture.frames},
            {"width", picture.width},
            {"height", picture.height},
            {"fps", input.request.fps.value_or(8)}}}};
}

std::string parameters_text(const Request& request) {
  std::string text = request.prompt;
  if (!request.negative_prompt.empty()) text += "\nNegative prompt: " + request.negative_prompt;
  text += fmt::format("\nSteps: {}, CFG scale: {}, Seed: {}, Size: {}x{}", request.steps.value_or(0),
                      request.guidance_scale.value_or(1), request.seed, request.width.value_or(0),
                      request.height.value_or(0));
  const auto model = std::filesystem::path(request.model);
  const auto name = model.has_filename() ? model.filename() : model.parent_path().filename();
  if (!name.empty()) text += ", Model: " + name.string();
  return text + ", Version: sagelab " + SAGELAB_VERSION;
}

media::Metadata metadata_of(const Frames& frames) {
  json request = to_json(frames.request);
  if (frames.report.contains("made")) request["made"] = frames.report.at("made");
  return {json_text(request), parameters_text(frames.request)};
}

}  // namespace sagelab
