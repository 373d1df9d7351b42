// SPDX-License-Identifier: Apache-2.0
#include "app/compare/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "app/compare/metrics.h"
#include "app/report/median.h"
#include "app/system.h"

namespace sagelab {
namespace {

using nlohmann::json;

json number(double value) {
  return std::isfinite(value) ? json(value) : json();
}

json numbers(const std::vector<double>& values) {
  json all = json::array();
  for (const double value : values) all.push_back(number(value));
  return all;
}

double mean(const std::vector<double>& values) {
  return values.empty() ? NAN : std::accumulate(values.begin(), values.end(), 0.0) / double(values.size());
}

// The mean and the worst are of the values that are finite: of the frames that differ, for PSNR.
json per_frame(const std::vector<double>& values) {
  std::vector<double> finite;
  std::copy_if(values.begin(), values.end(), std::back_inserter(finite),
               [](double v) { return std::isfinite(v); });
  const double worst = finite.empty() ? NAN : *std::min_element(finite.begin(), finite.end());
  return {{"mean", number(mean(finite))}, {"worst", number(worst)}, {"per_frame", numbers(values)}};
}

json quality_json(const Quality& quality) {
  return {{"frames", quality.psnr.size()},
          {"identical_frames", quality.identical_frames},
          {"psnr", per_frame(quality.psnr)},
          {"ssim", per_frame(quality.ssim)}};
}

json errors_json(const attention::Errors& e) {
  return {{"cosine", number(e.cosine)},
          {"relative_l1", number(e.relative_l1)},
          {"rmse", number(e.rmse)},
          {"max_abs", number(e.max_abs)}};
}

json latents_json(const StepErrors& errors) {
  if (errors.steps.empty()) return nullptr;
  json steps = json::array();
  for (const auto& step : errors.steps) steps.push_back(errors_json(step));
  return steps;
}

json temporal_json(const Picture& picture) {
  const auto changes = frame_changes(picture);
  return {{"mean_change", number(mean(changes))},
          {"flicker_score", number(flicker_score(changes))},
          {"changes", numbers(changes)}};
}

// Of several calls of one layer in one step, the one that is furthest off.
json attention_errors(const json& report) {
  std::map<std::pair<int, int>, json> worst;
  for (const auto& m : report.at("attention").at("measurements")) {
    const auto& site = m.at("site");
    const std::pair<int, int> place{site.at("step"), site.at("layer")};
    const auto known = worst.find(place);
    if (known != worst.end() && !(m.at("relative_l1") > known->second.at("relative_l1"))) continue;
    json entry{{"step", place.first}, {"layer", place.second}};
    for (const auto* key : {"cosine", "relative_l1", "rmse", "max_abs"}) entry[key] = m.at(key);
    worst[place] = std::move(entry);
  }
  json all = json::array();
  for (auto& [place, entry] : worst) all.push_back(std::move(entry));
  return all;
}

json seconds_json(const json& report) {
  std::vector<double> steps;
  for (const auto& step : report.at("steps")) steps.push_back(step.at("seconds"));
  const auto& seconds = report.at("seconds");
  const std::vector<double> typical(steps.begin() + (steps.size() > 2 ? 1 : 0), steps.end());
  return {{"load", seconds.at("load")},
          {"encode", seconds.at("encode")},
          {"denoise", std::accumulate(steps.begin(), steps.end(), 0.0)},
          {"decode", seconds.at("decode")},
          {"median_step", typical.empty() ? json() : json(median(typical))},
          {"steps", steps}};
}

std::vector<std::string> served(const json& report) {
  std::vector<std::string> names;
  for (const auto& [name, calls] : report.at("attention").at("served").items()) names.push_back(name);
  return names;
}

json run_json(const Pass& pass) {
  const auto& report = pass.frames.report;
  const auto names = served(report);
  const bool on_cpu = pass.frames.request.device == "cpu";
  const bool emulated = on_cpu && std::any_of(names.begin(), names.end(), [](const std::string& name) {
                          return name.starts_with("sage2");
                        });
  return {{"label", pass.label},
          {"spec", pass.spec},
          {"served", names},
          {"emulated", emulated},
          {"seconds", seconds_json(report)},
          {"temporal", temporal_json(*pass.frames.picture)},
          {"report", report}};
}

json figures_json(const Comparison& all, const Pass& pass, size_t i) {
  json figures{{"quality", quality_json(quality_of(*pass.frames.picture, *all.runs[0].frames.picture))},
               {"latents", latents_json(pass.latents)},
               {"locked_latents", nullptr},
               {"attention", nullptr}};
  if (all.checks.empty()) return figures;
  if (all.order.locked) figures["locked_latents"] = latents_json(all.checks[i].latents);
  if (all.order.attention_errors) figures["attention"] = attention_errors(all.checks[i].frames.report);
  return figures;
}

json floor_json(const Comparison& all) {
  json floor = run_json(all.again);
  const auto& a = *all.runs[0].frames.picture;
  floor["figures"] = figures_json(all, all.again, 0);
  const bool looked = !all.again.latents.steps.empty();
  floor["latents_identical"] = looked ? json(all.again.latents.identical) : json();
  floor["frames_identical"] = a.pixels == all.again.frames.picture->pixels;
  floor["identical"] = floor["latents_identical"] != false && floor["frames_identical"] == true;
  return floor;
}

// No figure of speed where one of the two is emulated.
json time_ratio(const json& run, const json& a) {
  const auto &ours = run.at("seconds").at("median_step"), &theirs = a.at("seconds").at("median_step");
  if (run.at("emulated") == true || a.at("emulated") == true || ours.is_null() || theirs.is_null())
    return nullptr;
  return ours.get<double>() / theirs.get<double>();
}

bool has_latents(const Comparison& all) {
  return std::any_of(all.runs.begin(), all.runs.end(),
                     [](const Pass& run) { return !run.latents.steps.empty(); });
}

json how_json(const Comparison& all) {
  const auto& order = all.order;
  json how{
      fmt::format("Every run has the same request, the same noise (seed {}) and the same weights.",
                  order.request.seed),
      "Floor: a ran twice; the figures of its second run against its first.",
      "Seconds are of plain runs, a step from its start until the device is done; a's are those of its "
      "second "
      "run, its floor's of the first. The median leaves out the first step. Runs that measure attention are "
      "not timed.",
      "PSNR and SSIM compare 8-bit frames before encoding, by the definitions of scikit-image (SSIM with "
      "Gaussian weights, sigma 1.5); their means leave out frames without a finite value (equal ones, for "
      "PSNR).",
      "Temporal consistency: the mean absolute difference of consecutive frames in levels of 255, and "
      "VBench's "
      "flicker score, (255 - mean) / 255: of each video alone, 1 where nothing moves."};
  how.push_back(has_latents(all)
                    ? "Latents: cosine, relative L1 (sum |x - a| / sum |a|) and RMSE after each step, each "
                      "run on its own latents; a dash where nobody looked at them."
                    : "Latents: nobody looked at them while these runs were made.");
  if (order.attention_errors)
    how.push_back(fmt::format(
        "Attention: in a run of its own each spec serves, and a's spec runs on the same q, k and v for up to "
        "256 query rows per head ({}): how far the two outputs are apart.",
        order.locked ? "on a's latents" : "on the run's own latents"));
  if (order.locked)
    how.push_back(
        "Locked: each step starts from what a left after the step before, so that its error is of that step "
        "alone; what a sampler remembers of the step before stays the run's own.");
  return how;
}

}  // namespace

json compare_report(const Comparison& all) {
  json floor = floor_json(all), runs = json::array();
  for (size_t i = 0; i < all.runs.size(); ++i) {
    json run = run_json(all.runs[i]);
    if (i == 0) {
      std::swap(run["seconds"], floor["seconds"]);  // the first run warms up
    } else {
      run["figures"] = figures_json(all, all.runs[i], i);
      run["time_ratio"] = time_ratio(run, runs[0]);
    }
    runs.push_back(std::move(run));
  }
  json request = to_json(all.runs[0].frames.request);
  request.erase("attention");  // each run has its own
  return {{"kind", kReportKind},
          {"request", request},
          {"versions", versions()},
          {"device", all.runs[0].frames.report.at("device")},
          {"locked", all.order.locked},
          {"how", how_json(all)},
          {"runs", runs},
          {"floor", floor}};
}

std::string decibels(const json& value) {
  return value.is_null() ? "equal" : fmt::format("{:.2f} dB", value.get<double>());
}

std::string figure(const json& value, int digits) {
  if (value.is_null()) return "-";
  const double number = value.get<double>();
  // "1234", not "1.23e+03"
  return std::abs(number) >= std::pow(10, digits) ? fmt::format("{:.0f}", number)
                                                  : fmt::format("{:.{}g}", number, digits);
}

std::string time_text(const json& run) {
  const auto& seconds = run.at("seconds");
  return fmt::format("{} s a step, {} s in all{}", figure(seconds.at("median_step"), 3),
                     figure(seconds.at("denoise"), 3),
                     run.at("emulated") == true ? fmt::format(" ({})", kEmulated) : "");
}

std::string quality_text(const json& figures) {
  const auto& quality = figures.at("quality");
  if (quality.at("identical_frames") == quality.at("frames")) return "every frame equal";
  return fmt::format("PSNR {}, SSIM {}", decibels(quality.at("psnr").at("mean")),
                     figure(quality.at("ssim").at("mean")));
}

namespace {

// After other figures; empty where nobody looked.
std::string latents_text(const json& figures, const char* separator) {
  const auto& steps = figures.at("latents");
  if (steps.is_null()) return "";
  return fmt::format("{}latents off by {} (relative L1) in the end", separator,
                     figure(steps.back().at("relative_l1")));
}

}  // namespace

std::string floor_text(const json& floor) {
  const auto& figures = floor.at("figures");
  const bool looked = !figures.at("latents").is_null();
  if (floor.at("identical") == true)
    return looked ? "bit-identical: the latents of every step and every frame"
                  : "every frame bit-identical; nobody looked at the latents";
  return fmt::format("NOT bit-identical: {}{}", quality_text(figures), latents_text(figures, ", "));
}

std::string summary_of(const json& report) {
  std::string out;
  for (const auto& run : report.at("runs")) {
    out += fmt::format("{}  {}: {}", run.at("label").get<std::string>(), run.at("spec").get<std::string>(),
                       time_text(run));
    if (run.contains("figures")) {
      out += "; " + quality_text(run.at("figures")) + latents_text(run.at("figures"), "; ");
      if (!run.at("time_ratio").is_null())
        out += fmt::format("; {:.2f} of a's time", run.at("time_ratio").get<double>());
    }
    out += "\n";
  }
  return out + fmt::format("a twice: {}\n", floor_text(report.at("floor")));
}

}  // namespace sagelab
