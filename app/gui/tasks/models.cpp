// SPDX-License-Identifier: Apache-2.0
#include "app/gui/tasks/models.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "app/commands/places.h"
#include "app/failure.h"
#include "attention/registry.h"
#include "pipelines/common/outlook.h"
#include "pipelines/footprint.h"

namespace sagelab::gui {
namespace {

namespace fs = std::filesystem;

// How far apart the values are that fit() leaves as they are, from one that it does.
template <typename Field>
int grain_of(const Family& family, Request request, Field field) {
  constexpr int kMost = 256;
  const int start = (request.*field).value_or(1);
  for (int more = 1; more <= kMost; ++more) {
    request.*field = start + more;
    if ((family.fit(request).*field).value_or(start) == start + more) return more;
  }
  return 1;
}

// Whether every number of frames becomes one.
bool makes_pictures_only(const Family& family, Request request) {
  constexpr int kMany = 97;
  request.num_frames = kMany;
  return family.fit(request).num_frames == 1;
}

std::string label_of_folder(const fs::path& path, const std::string& family) {
  const auto name = path.has_filename() ? path.filename() : path.parent_path().filename();
  return fmt::format("{}  ({})", name.string(), family);
}

bool emulated_on(const at::Device& device, std::string_view spec) {
  return device.is_cpu() && spec.starts_with("sage2");
}

// Whether it can run once it has the nearest size that the model can make.
bool mended_by_fit(const Request& request, const Session::FindFamily& find_family) {
  const auto size = [](const Request& r) { return std::tuple(r.width, r.height, r.num_frames); };
  try {
    const auto& family = find_family(request.model);
    const auto fitted = family.fit(request);
    if (size(fitted) == size(request)) return false;
    family.resolve(fitted);
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

}  // namespace

ui::ModelChoice model_choice(const std::string& path, const Session::FindFamily& find_family) {
  ui::ModelChoice choice;
  choice.path = path;
  choice.label = fs::path(path).filename().string();
  choice.shown.model = path;
  choice.shown.preview = 1;
  try {
    const auto& family = find_family(path);
    choice.family = family.name;
    choice.label = label_of_folder(path, family.name);
    choice.options = family.options();
    choice.defaults = family.resolve(choice.shown);
    choice.width_grain = grain_of(family, choice.defaults, &Request::width);
    choice.height_grain = grain_of(family, choice.defaults, &Request::height);
    choice.frames_grain = grain_of(family, choice.defaults, &Request::num_frames);
    choice.pictures_only = makes_pictures_only(family, choice.defaults);
  } catch (...) {
    const auto failed = describe(std::current_exception());
    choice.problem = failed.message, choice.hint = failed.hint;
  }
  return choice;
}

ui::ModelChoice bundled_choice(const std::string& path, const Session::FindFamily& find_family) {
  auto choice = model_choice(path, find_family);
  const auto shown = bundled_request();
  choice.bundled = true;
  choice.label = "Demo  (bundled)";
  choice.shown.prompt = shown.prompt;
  choice.shown.steps = shown.steps, choice.shown.guidance_scale = shown.guidance_scale;
  return choice;
}

std::vector<ui::Preset> presets_of(const ui::ModelChoice& model) {
  if (!model.problem.empty()) return {};
  std::vector<ui::Preset> presets{{"Own", "The model's own size, frames, steps and guidance", {}}};
  presets[0].request.steps = model.shown.steps;
  presets[0].request.guidance_scale = model.shown.guidance_scale;
  ui::Preset quick{"Quick", "A third of the steps: to find a prompt and a seed", presets[0].request};
  const int steps = quick.request.steps.value_or(model.defaults.steps.value_or(30));
  quick.request.steps = std::max(4, steps / 3);
  presets.push_back(quick);
  if (model.defaults.num_frames.value_or(1) > 1) {
    ui::Preset still{"Still", "One picture in place of a video", presets[0].request};
    still.request.num_frames = 1;
    presets.push_back(still);
  }
  return presets;
}

Speeds::Run run_of(const Request& resolved, const Plan& plan) {
  const auto target = resolve_target(resolved);
  Speeds::Run run;
  run.model = resolved.model, run.device = resolved.device, run.dtype = resolved.dtype;
  run.attention = resolved.attention;
  run.emulated = target.device.is_cpu() && resolved.attention.find("sage2") != std::string::npos;
  run.flops = plan.flops_per_forward * plan.forwards;
  run.pixels =
      double(resolved.width.value_or(0)) * resolved.height.value_or(0) * resolved.num_frames.value_or(1);
  run.target = target;
  for (const auto& problem : plan.problems) run.width = std::max(run.width, problem.heads * problem.head_dim);
  return run;
}

std::vector<ui::BackendChoice> backends_for(const std::vector<attention::Problem>& problems,
                                            const at::Device& device) {
  std::vector<ui::BackendChoice> choices;
  for (const auto& entry : attention::backends()) {
    ui::BackendChoice choice{std::string(entry.spec), std::string(entry.help), {}, false};
    choice.emulated = emulated_on(device, entry.spec);
    try {
      const auto backend = attention::make_backend(entry.spec);
      for (const auto& problem : problems)
        if (choice.reason.empty()) choice.reason = backend->unsupported(problem);
    } catch (const Error& e) {
      choice.reason = e.what();
    }
    choices.push_back(std::move(choice));
  }
  return choices;
}

Outlook outlook_of(const Request& request, const Session::FindFamily& find_family, const Speeds& speeds) {
  Outlook outlook;
  auto& estimate = outlook.estimate;
  estimate.pending = false;
  try {
    const auto& family = find_family(request.model);
    const auto resolved = family.resolve(request);
    const auto plan = family.plan(resolved);
    const auto device = resolve_target(resolved).device;
    const auto guess = speeds.guess(run_of(resolved, plan));
    estimate.seconds = guess.seconds, estimate.denoise = guess.denoise, estimate.rough = guess.rough;
    estimate.there_bytes = memory_for_tensors(device);
    estimate.peak_bytes = peak_among_others(family, resolved, estimate.there_bytes);
    estimate.tokens = plan.tokens, estimate.prompt_tokens = plan.prompt_tokens;
    estimate.token_limit = plan.text_tokens;
    estimate.steps = plan.steps, estimate.layers = plan.layers;
    estimate.device = resolved.device;
    outlook.backends = backends_for(plan.problems, device);
  } catch (...) {
    const auto failed = describe(std::current_exception());
    estimate.error = failed.message, estimate.hint = failed.hint;
    estimate.other_size = mended_by_fit(request, find_family);
  }
  return outlook;
}

}  // namespace sagelab::gui
