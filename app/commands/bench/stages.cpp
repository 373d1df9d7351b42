// SPDX-License-Identifier: Apache-2.0
// `bench stages`: what attention/study/stages.h measures, as a table and JSON.
#include "attention/study/stages.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <memory>

#include "app/commands/bench/attention/inputs.h"
#include "app/commands/bench/bench.h"
#include "app/commands/bench/timing.h"
#include "app/failure.h"
#include "app/media/file.h"
#include "app/options.h"
#include "app/system.h"
#include "attention/error.h"
#include "pipelines/registry.h"

namespace sagelab {
namespace {

namespace study = attention::study;

struct Measured {
  std::string_view name;
  std::function<void()> work;
  std::vector<double> times;
  double seconds = 0, hertz = 0;
};

constexpr double kLook = .1;  // seconds of work that a look at the clock takes place in

struct BenchStagesCommand {
  bench::Shape shape{.batch = 4, .heads = 32, .kv_heads = 32, .tokens = 32768, .head_dim = 128};
  int repeat = 10;
  std::string device = "auto", json_file;

  at::Device resolve_device() const {
    Request request;
    request.device = device;
    request.dtype = "fp32";
    const at::Device on = resolve_target(request).device;
    const std::string reason = study::stages_unsupported(on);
    if (!reason.empty())
      throw Error(fmt::format("bench stages cannot run here: {}", reason), "run it on a Hopper GPU");
    return on;
  }

  // In turns, so that a drift meets all alike. Each begins with calls that let the device settle: its clock
  // is for a while the one that the variant before left it.
  std::vector<Measured> measure(const attention::Call& call, const at::Device& on) const {
    constexpr int kTurns = 4;
    std::vector<Measured> all;
    const auto run = study::prepare_stages(call);
    for (const auto& [variant, name] : study::stage_variants())
      all.push_back({name, [run, variant] { run(variant); }, {}, 0, 0});
    for (int done = 0; done < repeat;) {
      const int now = std::min((repeat + kTurns - 1) / kTurns, repeat - done);
      for (auto& one : all) {
        settle(one, on);
        for (int i = 0; i < now; ++i) one.times.push_back(seconds_of(on, one.work));
      }
      done += now;
    }
    for (auto& one : all) {
      one.seconds = median(one.times);
      const int times = std::max(1, int(std::ceil(kLook / one.seconds)));
      settle(one, on);
      one.hertz = study::clock_rate(on, [&] {
        for (int i = 0; i < times; ++i) one.work();
      });
    }
    return all;
  }

  static void settle(const Measured& one, const at::Device& on) {
    for (double seconds = 0; seconds < kSettleSeconds;) seconds += seconds_of(on, one.work);
  }

  std::string title(const at::Device& on) const {
    return fmt::format(
        "Hopper's attention kernel on {}, bf16, {} tokens, head dim {}, batch {}, {} heads; ms, median of "
        "{}\n"
        "clocks: of a processor for a pair of tiles, 128 queries by 128 keys\n\n{:36} {:>9} {:>8} {:>7} "
        "{:>7}\n",
        device_title(on), shape.tokens, shape.head_dim, shape.batch, shape.heads, repeat, "", "ms",
        "of whole", "clocks", "MHz");
  }

  int run() {
    const at::Device on = resolve_device();
    if (!json_file.empty()) media::probe_whole(json_file);
    const c10::InferenceMode inference;
    shape.kv_heads = shape.heads;
    const auto call = bench::draw(shape, "normal", 0, at::TensorOptions().device(on).dtype(at::kBFloat16));
    const auto all = measure(call, on);
    const double tiles = study::tiles_per_processor(call);
    nlohmann::json rows = nlohmann::json::array();
    std::string text = title(on);
    for (const auto& one : all) {
      const double clocks = one.seconds * one.hertz / tiles, share = one.seconds / all.front().seconds;
      text += fmt::format("{:36} {:9.3f} {:8.3f} {:7.0f} {:7.0f}\n", one.name, one.seconds * 1e3, share,
                          clocks, one.hertz * 1e-6);
      rows.push_back({{"variant", one.name},
                      {"seconds", one.seconds},
                      {"of_whole", share},
                      {"clocks", clocks},
                      {"hertz", one.hertz}});
    }
    print(text);
    const nlohmann::json out{{"device", device_info(on).name}, {"tokens", shape.tokens},
                             {"head_dim", shape.head_dim},     {"batch", shape.batch},
                             {"heads", shape.heads},           {"variants", rows}};
    if (!json_file.empty()) media::write_whole(json_file, json_text(out, 2) + "\n");
    return kDone;
  }
};

}  // namespace

void add_bench_stages(CLI::App& bench, int& exit_code) {
  auto* command = bench.add_subcommand(
      "stages", "Hopper's attention kernel with one of its parts left out: what it waits for");
  auto state = std::make_shared<BenchStagesCommand>();
  command->add_option("--seq", state->shape.tokens, "tokens [32768]")->check(CLI::PositiveNumber);
  command->add_option("--head-dim", state->shape.head_dim, "[128]")->check(CLI::IsMember({64, 128}));
  command->add_option("--batch", state->shape.batch, "[4]")->check(CLI::PositiveNumber);
  command->add_option("--heads", state->shape.heads, "[32]")->check(CLI::PositiveNumber);
  command->add_option("--device", state->device, "auto, cuda or cuda:N")
      ->check(CLI::Validator(check_device, "auto|cpu|cuda|cuda:N"));
  command->add_option("--repeat", state->repeat, "timed calls of each [10]")->check(CLI::Range(1, 10000));
  command->add_option("--json", state->json_file, "write the figures to this file");
  command->callback([state, &exit_code] { exit_code = guarded([&] { return state->run(); }); });
}

}  // namespace sagelab
