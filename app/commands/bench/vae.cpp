// SPDX-License-Identifier: Apache-2.0
#include "app/commands/bench/vae.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "app/commands/bench/bench.h"
#include "app/commands/bench/released.h"
#include "app/commands/bench/timing.h"
#include "app/failure.h"
#include "app/media/file.h"
#include "app/system.h"
#include "attention/dtype.h"
#include "attention/error.h"
#include "pipelines/footprint.h"

namespace sagelab {
namespace {

struct BenchVaeCommand {
  Released released;
  std::string json_file;
  std::vector<std::string> tiling = {"off", "on"};
  int repeat = 2, warmup = 1;

  int run() {
    const c10::InferenceMode inference;
    const auto& f = released.check("bench vae");
    const auto target = released.target(f);
    if (!json_file.empty()) media::probe_whole(json_file);
    count_cpu_tensors();
    const auto vae = f.bench_vae(released.variant, target);
    std::vector<VaeRow> rows;
    for (const auto& how : tiling)
      rows.push_back(bench_vae(vae, {how == "on", target.device, warmup, repeat}));
    const auto dtype = dtype_name(target.dtype), device = device_title(target.device);
    print(
        fmt::format("{} {} decoder with random weights, {}, {}\n", f.name, released.variant, dtype, device) +
        vae_table(vae, rows));
    if (json_file.empty()) return kDone;
    auto json = vae_json(vae, rows);
    json.update({{"family", f.name}, {"variant", released.variant}, {"device", device}, {"dtype", dtype}});
    media::write_whole(json_file, json_text(json, 2) + "\n");
    return kDone;
  }
};

}  // namespace

VaeRow bench_vae(const BenchVae& vae, const VaeSettings& settings) {
  constexpr int64_t kLooked = 1 << 24;  // values at a time
  VaeRow row;
  row.tiled = settings.tiled;
  row.foretold = vae.peak_bytes(settings.tiled);
  row.held = tensor_bytes(settings.device);
  reset_tensor_peak(settings.device);
  std::vector<double> seconds;
  for (int i = 0; i < settings.warmup + settings.repeat; ++i) {
    at::Tensor frames;
    const double once = seconds_of(settings.device, [&] { frames = vae.decode(settings.tiled); });
    if (i >= settings.warmup) seconds.push_back(once);
    row.peak = peak_tensor_bytes(settings.device) - row.held;
    row.frames = frames.sizes().vec();
    for (const auto& part : frames.flatten().split(kLooked))
      if (!at::isfinite(part).all().item<bool>())
        throw Error("what was decoded holds values that are not finite", "use --dtype bf16 or fp32");
    frames.reset();
    reset_tensor_peak(settings.device);
  }
  const auto [low, high] = std::minmax_element(seconds.begin(), seconds.end());
  row.median = median(seconds), row.min = *low, row.max = *high;
  return row;
}

nlohmann::json vae_json(const BenchVae& vae, const std::vector<VaeRow>& rows) {
  nlohmann::json out{{"latent_shape", vae.latent_shape}, {"rows", nlohmann::json::array()}};
  for (const auto& row : rows)
    out["rows"].push_back({{"tiling", row.tiled ? "on" : "off"},
                           {"seconds", {{"median", row.median}, {"min", row.min}, {"max", row.max}}},
                           {"frames", row.frames},
                           {"held_bytes", row.held},
                           {"peak_bytes", row.peak},
                           {"predicted_peak_bytes", row.foretold}});
  return out;
}

std::string vae_table(const BenchVae& vae, const std::vector<VaeRow>& rows) {
  auto out = fmt::format("latents {}, frames {}\n\n", vae.latent_shape, rows.front().frames);
  out += fmt::format("{:<6}  {:>9} {:>9} {:>9}  {:>7} {:>7} {:>11}\n", "tiling", "median s", "min", "max",
                     "held GB", "peak GB", "foretold GB");
  for (const auto& row : rows)
    out += fmt::format("{:<6}  {:>9.3f} {:>9.3f} {:>9.3f}  {:>7.2f} {:>7.2f} {:>11.2f}\n",
                       row.tiled ? "on" : "off", row.median, row.min, row.max, double(row.held) * 1e-9,
                       double(row.peak) * 1e-9, double(row.foretold) * 1e-9);
  return out + "\npeak: of tensors inside the decoding, beside the weights and latents held\n";
}

void add_bench_vae(CLI::App& bench, int& exit_code) {
  auto* command = bench.add_subcommand("vae", "latents of a released size to frames, with random weights");
  auto state = std::make_shared<BenchVaeCommand>();
  state->released.add_to(*command);
  command->add_option("--tiling", state->tiling, "off, on or both [both]")
      ->expected(1, 2)
      ->check(CLI::IsMember({"off", "on"}));
  command->add_option("--repeat", state->repeat, "timed decodings of each [2]")->check(CLI::Range(1, 1000));
  command->add_option("--warmup", state->warmup, "decodings before [1]")->check(CLI::Range(0, 1000));
  command->add_option("--json", state->json_file, "write the figures to this file");
  command->callback([state, &exit_code] { exit_code = guarded([&] { return state->run(); }); });
}

}  // namespace sagelab
