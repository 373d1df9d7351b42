// SPDX-License-Identifier: Apache-2.0
#include "app/commands/places.h"

#include <fmt/format.h>

#include <algorithm>

#include "app/failure.h"
#include "app/media/file.h"

namespace sagelab {
namespace fs = std::filesystem;
namespace {

constexpr const char* kModel = "assets/demo";
constexpr const char* kPrompt = "a pink ring rises under water";
constexpr int kSteps = 30;  // both as the model's own checks sample it (scripts/demo/sample.py)
constexpr double kGuidance = 4;

struct Place {
  std::string what;
  fs::path path;
};

fs::path place_of(const fs::path& path) {
  std::error_code ignored;
  const fs::path plain = path.has_filename() ? path : path.parent_path();
  return fs::weakly_canonical(fs::absolute(plain, ignored), ignored);
}

bool lies_in(const fs::path& path, const fs::path& folder) {
  return std::mismatch(folder.begin(), folder.end(), path.begin(), path.end()).first == folder.end();
}

}  // namespace

Places::Places(const Request& request, const NamedFiles& named)
    : output(request.output),
      report(named.report),
      capture(named.capture),
      keep_latents(!request.latents.empty()) {
  if (request.preview > 0) preview = output.preview_beside();
  if (named.from_latents.empty())
    latents = keep_latents ? request.latents : free_name(output.latents_beside()).string();
  checkpoint = named.resume;
  if (named.checkpoints && checkpoint.empty()) checkpoint = free_name(output.checkpoint_beside()).string();
  check_apart(named);
}

void Places::check_apart(const NamedFiles& named) const {
  const Place all[] = {{"--output", output.path()},  {"--latents", latents},
                       {"--report", report},         {"--capture-qkv", capture},
                       {"the preview", preview},     {"--from-latents", named.from_latents},
                       {"--request", named.request}, {"the checkpoint", checkpoint}};
  for (const auto& a : all) {
    if (a.path.empty()) continue;
    for (const auto* b = &a + 1; b != std::end(all); ++b) {
      if (b->path.empty() || place_of(a.path) != place_of(b->path)) continue;
      throw UsageError(fmt::format("{} and {} are the same file: {}", a.what, b->what, b->path.string()),
                       "give each a name of its own");
    }
    if (!capture.empty() && a.what != "--capture-qkv" && lies_in(place_of(a.path), place_of(capture)))
      throw UsageError(fmt::format("{} lies in the folder of --capture-qkv, which holds nothing else: {}",
                                   a.what, a.path.string()),
                       "choose a place outside of it");
    if (output.kind() != media::Kind::Folder || &a == all || a.what == "--request") continue;
    if (lies_in(place_of(a.path), place_of(output.path())))
      throw UsageError(fmt::format("{} lies in the output folder {}, which is replaced as a whole: {}",
                                   a.what, output.path().string(), a.path.string()),
                       "choose a place outside of it");
  }
}

void Places::probe(int64_t latents_bytes) const {
  output.probe();
  if (!latents.empty()) media::probe_file(latents, latents_bytes);
  if (!checkpoint.empty()) media::probe_file(checkpoint, 3 * latents_bytes);  // a sampler may keep as much
  if (!report.empty()) media::probe_whole(report);
  if (!preview.empty()) media::probe_file(preview);
}

std::vector<std::string> Places::all() const {
  std::vector<std::string> files;
  if (!capture.empty()) files.push_back(capture + (capture.ends_with('/') ? "" : "/"));
  if (!preview.empty()) files.push_back(preview.string());
  if (!checkpoint.empty()) files.push_back(checkpoint + " (until the output is written)");
  if (!latents.empty()) files.push_back(latents + (keep_latents ? "" : " (until the output is written)"));
  files.push_back(output.path().string() + (output.kind() == media::Kind::Folder ? "/" : ""));
  if (!report.empty()) files.push_back(report);
  return files;
}

std::string bundled_model() {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  for (fs::path at = program.parent_path(); at.has_relative_path(); at = at.parent_path())
    if (fs::exists(at / kModel / "model_index.json", error)) return (at / kModel).string();
  throw Error(
      std::string("the demo's model is not there: no folder above ") + program.string() + " holds " + kModel,
      "run the program from a whole clone, or show a model of yours with sagelab compare");
}

Request bundled_request() {
  Request request;
  request.prompt = kPrompt, request.steps = kSteps, request.guidance_scale = kGuidance;
  return request;
}

}  // namespace sagelab
