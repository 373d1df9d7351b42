// SPDX-License-Identifier: Apache-2.0
#include "app/commands/capture.h"

#include <fmt/format.h>

#include <algorithm>
#include <system_error>

#include <CLI/CLI.hpp>

#include "app/failure.h"
#include "app/media/file.h"
#include "app/options.h"
#include "pipelines/core/memory.h"
#include "pipelines/core/safetensors.h"

namespace sagelab {
namespace fs = std::filesystem;
namespace {

using attention::Range;
using attention::Ranges;

constexpr const char* kHowToList = "write 3, 0-4, 0+2-5 or last";

fs::path without_slash(const fs::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

// what: "layer" or "step", of which there are count.
Ranges ranges_of(const std::string& list, const std::string& what, int count) {
  if (list.empty()) return {{0, 0}, {count / 2, count / 2}, {Range::kLast, Range::kLast}};
  auto ranges = attention::ranges_from(list);
  if (ranges.empty())
    throw UsageError(fmt::format("--capture-{}s: '{}' is no list of {}s", what, list, what), kHowToList);
  for (const Range& r : ranges)
    for (const int bound : {r.first, r.last})
      if (bound != Range::kLast && bound >= count)
        throw UsageError(fmt::format("--capture-{}s {} asks for {} {}, and this run has {}s 0 to {}", what,
                                     list, what, bound, what, count - 1),
                         kHowToList);
  return ranges;
}

void check_empty(const fs::path& folder) {
  std::error_code error;
  if (!fs::exists(folder, error)) return;
  if (!fs::is_directory(folder, error))
    throw Error(folder.string() + " is a file, not a folder", "choose another place for --capture-qkv");
  const fs::directory_iterator entries(folder, error);
  if (error) cannot_write(folder, error.value());
  if (entries == fs::directory_iterator()) return;
  throw Error(fmt::format("the folder {} holds files already ({})", folder.string(),
                          entries->path().filename().string()),
              "choose a new or an empty folder for --capture-qkv");
}

CaptureSize size_of(const Plan& plan, const Ranges& layers, const Ranges& steps) {
  CaptureSize size;
  for (int step = 0; step < plan.steps; ++step) {
    if (!holds(steps, step, plan.steps)) continue;
    for (const auto& call : plan.calls) {
      if (step < call.from || step >= call.until || !holds(layers, call.layer, plan.layers)) continue;
      size.files += 1;
      size.bytes += call.qkv_bytes;
      size.largest = std::max(size.largest, call.qkv_bytes);
    }
  }
  return size;
}

std::string model_name(const std::string& folder) {
  std::error_code ignored;
  return without_slash(fs::absolute(folder, ignored).lexically_normal()).filename().string();
}

}  // namespace

void CaptureFlags::add(CLI::App& app) {
  auto* capture = app.add_option("--capture-qkv", folder,
                                 "a new folder for q, k and v of some calls, as attention sees them: "
                                 "safetensors; the writing counts in the steps' seconds");
  app.add_option("--capture-layers", layers, "which, from 0: 3, 0-4, 0+2-5, last [first, middle, last]")
      ->needs(capture);
  app.add_option("--capture-steps", steps, "the same of steps [first, middle, last]")->needs(capture);
}

CaptureFolder::CaptureFolder(const CaptureFlags& flags, const Request& resolved, const Plan& plan)
    : path_(without_slash(flags.folder.value_or(""))), model_(model_name(resolved.model)) {
  if (path_.empty()) throw UsageError("--capture-qkv names no folder", "give it a new folder");
  check_flag_text(path_.string(), "name of the folder to capture to");
  layers_ = ranges_of(flags.layers, "layer", plan.layers);
  steps_ = ranges_of(flags.steps, "step", plan.steps);
  planned_ = size_of(plan, layers_, steps_);
  check_empty(path_);
}

CaptureFolder::~CaptureFolder() {
  std::error_code ignored;
  if (made_) fs::remove(path_, ignored);  // fails where it holds something
}

void CaptureFolder::make() {
  std::error_code error;
  made_ = fs::create_directory(path_, error);
  if (error) cannot_write(path_, error.value());
  const auto space = fs::space(path_, error);
  if (!error && space.available < uintmax_t(planned_.bytes))
    throw Error(fmt::format("{} files of q, k and v take {}, and {} are free in {}", planned_.files,
                            human_bytes(planned_.bytes), human_bytes(int64_t(space.available)), shown()),
                "free some space there, choose another place, or capture fewer layers or steps");
  media::probe_file(path_ / "probe.safetensors", planned_.largest);
}

attention::Capturing CaptureFolder::capturing() {
  return {layers_, steps_, [this](const attention::Captured& call) { write(call); }};
}

void CaptureFolder::write(const attention::Captured& call) {
  const auto& site = call.site;
  const auto branch = std::string(attention::to_string(site.branch)), block = std::string(site.block);
  const auto stem = fmt::format("step_{:04}_layer_{:04}_{}_{}", site.step, site.layer, block, branch);
  const int index = calls_[stem]++;
  write_safetensors(path_ / fmt::format("{}_call_{}.safetensors", stem, index),
                    {{"q", call.q}, {"k", call.k}, {"v", call.v}},
                    {{"scale", fmt::format("{}", call.scale)},
                     {"causal", call.causal ? "true" : "false"},
                     {"step", std::to_string(site.step)},
                     {"steps", std::to_string(site.steps)},
                     {"layer", std::to_string(site.layer)},
                     {"layers", std::to_string(site.layers)},
                     {"call", std::to_string(index)},
                     {"block", block},
                     {"branch", branch},
                     {"model", model_}});
  const auto bytes = int64_t(call.q.nbytes() + call.k.nbytes() + call.v.nbytes());
  written_.files += 1;
  written_.bytes += bytes;
  written_.largest = std::max(written_.largest, bytes);
}

nlohmann::json CaptureFolder::as_json(const CaptureSize& size) const {
  return {{"folder", shown()}, {"files", size.files}, {"bytes", size.bytes}};
}

std::string CaptureFolder::as_text(const CaptureSize& size) const {
  return fmt::format("{}: {} file{} of q, k and v, {}", shown(), size.files, size.files == 1 ? "" : "s",
                     human_bytes(size.bytes));
}

}  // namespace sagelab
