// SPDX-License-Identifier: Apache-2.0
#include "app/commands/dry_run.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "app/system.h"
#include "pipelines/core/memory.h"

namespace sagelab {
namespace {

std::string flops_text(double flops) {
  constexpr std::pair<double, const char*> kUnits[] = {{1e15, "P"}, {1e12, "T"}, {1e9, "G"}, {1e6, "M"}};
  for (const auto& [unit, letter] : kUnits)
    if (flops >= unit) return fmt::format("{:.2f} {}FLOP", flops / unit, letter);
  return fmt::format("{:.0f} FLOP", flops);
}

// What --offload does to a run; where weights are fetched again and again, that it takes longer.
std::string offload_text(const Request& r, const Plan& plan) {
  const std::string freed = fmt::format("{}: text encoders are freed before denoising", r.offload);
  if (r.offload == "none") return "none: every part stays in memory";
  if (r.offload == "encoders") return freed;
  if (r.device == "cpu") return freed + ", and on a CPU no more: all weights are in host memory";
  return fmt::format(
      "{}; the transformer's blocks stay in host memory and are copied for each of {} forwards, two at a "
      "time on the device: slower",
      freed, plan.forwards);
}

}  // namespace

nlohmann::json to_json(const DryRun& run) {
  const auto& plan = run.plan;
  nlohmann::json components = nlohmann::json::array(), phases = nlohmann::json::object();
  for (const auto& c : plan.components)
    components.push_back(
        {{"name", c.name}, {"parameters", c.parameters}, {"file_bytes", c.file_bytes}, {"bytes", c.bytes}});
  for (const auto& [phase, bytes] : plan.peak_by_phase) phases[phase] = bytes;
  return {{"request", to_json(run.request)},
          {"attention", run.attention},
          {"tokens", plan.tokens},
          {"text_tokens", plan.text_tokens},
          {"prompt_tokens", plan.prompt_tokens},
          {"latent_shape", plan.latent_shape},
          {"flops_per_forward", plan.flops_per_forward},
          {"forwards", plan.forwards},
          {"flops", plan.flops_per_forward * plan.forwards},
          {"components", components},
          {"predicted_peak_bytes", plan.peak_bytes()},
          {"predicted_peak_bytes_by_phase", phases},
          {"capture", run.capture ? run.capture->as_json(run.capture->planned()) : nlohmann::json()},
          {"writes", run.writes}};
}

std::string table_of(const DryRun& run) {
  const auto& [r, plan, attention, writes, capture] = run;
  std::string out;
  const auto row = [&](const char* name, const std::string& value) {
    out += fmt::format("{:<12}{}\n", name, value);
  };
  row("model", r.model);
  const int frames = r.num_frames.value_or(1);
  row("size", fmt::format("{}x{}", r.width.value_or(0), r.height.value_or(0)) +
                  (frames == 1 ? "" : fmt::format(", {} frames, {} fps", frames, r.fps.value_or(8))));
  row("run", fmt::format("{} steps, guidance {}, seed {}, {} on {}, attention {}", r.steps.value_or(0),
                         r.guidance_scale.value_or(1), r.seed, r.dtype, r.device, attention));
  for (const auto& planned : switches_of(r))
    row("switch",
        fmt::format("attention {} from {}step {} on", planned.backend->name(),
                    planned.call > 0 ? fmt::format("call {} of ", planned.call) : "", planned.step));
  row("tokens",
      fmt::format("{} a sample: {} of latents {}, {} of text ({} before padding)", plan.tokens,
                  plan.tokens - plan.text_tokens, plan.latent_shape, plan.text_tokens, plan.prompt_tokens));
  row("work", fmt::format("{} a forward, {} forwards, {} in all", flops_text(plan.flops_per_forward),
                          plan.forwards, flops_text(plan.flops_per_forward * plan.forwards)));
  for (const auto& c : plan.components)
    row(&c == plan.components.data() ? "components" : "",
        fmt::format("{:<14} {:>14} parameters  {:>10} on disk  {:>10} in memory", c.name, c.parameters,
                    human_bytes(c.file_bytes), human_bytes(c.bytes)));
  std::string phases;
  for (const auto& [phase, bytes] : plan.peak_by_phase)
    phases += fmt::format("{}{} {}", phases.empty() ? "" : ", ", phase, human_bytes(bytes));
  row("memory", fmt::format("{} at the peak ({})", human_bytes(plan.peak_bytes()), phases));
  row("offload", offload_text(r, plan));
  if (capture) row("captures", capture->as_text(capture->planned()));
  for (const auto& file : writes) row(&file == writes.data() ? "writes" : "", file);
  return out;
}

}  // namespace sagelab
