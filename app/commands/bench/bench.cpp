// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "app/commands/bench/bench.h"
#include "app/commands/bench/model.h"
#include "app/commands/bench/released.h"
#include "app/commands/commands.h"
#include "app/failure.h"
#include "app/media/file.h"
#include "app/system.h"
#include "attention/dtype.h"
#include "attention/registry.h"
#include "pipelines/footprint.h"

namespace sagelab {
namespace {

struct BenchModelCommand {
  Released released;
  std::string json_file;
  std::vector<std::string> attention;
  int repeat = 5, warmup = 2;

  void check_attention() const {
    for (const auto& spec : attention) {
      try {
        attention::make_backend(spec);
      } catch (const Error& e) {
        throw UsageError(e.what(), e.hint());
      }
    }
  }

  int run() {
    const auto& f = released.check("bench model");
    check_attention();
    const auto target = released.target(f);
    if (attention.empty()) attention.push_back(attention::default_spec(target.device));
    if (!json_file.empty()) media::probe_whole(json_file);
    count_cpu_tensors();
    BenchTitle title{f.name, released.variant, device_title(target.device), dtype_name(target.dtype),
                     matmul_rate(target)};
    const auto model = f.bench(released.variant, target);
    const auto rows = bench_model(model, {attention, target, warmup, repeat});
    print(bench_table(title, model, rows));
    if (!json_file.empty())
      media::write_whole(json_file, json_text(bench_json(title, model, rows), 2) + "\n");
    return kDone;
  }
};

}  // namespace

void add_bench(CLI::App& app, int& exit_code) {
  auto* bench = app.add_subcommand("bench", "speed and accuracy");
  bench->require_subcommand(1);
  add_bench_attention(*bench, exit_code);
  add_bench_accuracy(*bench, exit_code);
  add_bench_accumulator(*bench, exit_code);
  add_bench_stages(*bench, exit_code);
  add_bench_vae(*bench, exit_code);
  auto* command =
      bench->add_subcommand("model", "whole denoising forwards at a released size, with random weights");
  auto state = std::make_shared<BenchModelCommand>();
  state->released.add_to(*command);
  command->add_option("--attention", state->attention, "backends to compare [the device's default]")
      ->expected(1, -1);
  command->add_option("--repeat", state->repeat, "timed forwards of each [5]")->check(CLI::Range(1, 10000));
  command->add_option("--warmup", state->warmup, "forwards before [2]")->check(CLI::Range(0, 10000));
  command->add_option("--json", state->json_file, "write the figures to this file");
  command->callback([state, &exit_code] { exit_code = guarded([&] { return state->run(); }); });
}

}  // namespace sagelab
