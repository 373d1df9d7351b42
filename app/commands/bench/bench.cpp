// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>

#include "app/commands/bench/bench.h"
#include "app/commands/bench/model.h"
#include "app/commands/commands.h"
#include "app/failure.h"
#include "app/media/file.h"
#include "app/options.h"
#include "app/system.h"
#include "attention/dtype.h"
#include "attention/registry.h"
#include "pipelines/footprint.h"

namespace sagelab {
namespace {

struct BenchModelCommand {
  std::string family, variant, device = "auto", dtype = "auto", json_file;
  std::vector<std::string> attention;
  bool random_weights = false;
  int repeat = 5, warmup = 2;

  const Family& find_family() const {
    std::vector<std::string> names;
    for (const auto& f : families()) {
      if (f.name == family) return f;
      names.push_back(f.name);
    }
    throw UsageError("unknown family " + family,
                     fmt::format("--family is one of: {}", fmt::join(names, ", ")));
  }

  void check(const Family& f) const {
    if (std::find(f.variants.begin(), f.variants.end(), variant) == f.variants.end())
      throw UsageError(fmt::format("{} has no variant {}", f.name, variant),
                       fmt::format("--variant is one of: {}", fmt::join(f.variants, ", ")));
    if (!random_weights)
      throw UsageError("bench model times random weights and needs no checkpoint",
                       "add --random-weights to say so");
    for (const auto& spec : attention) {
      try {
        attention::make_backend(spec);
      } catch (const Error& e) {
        throw UsageError(e.what(), e.hint());
      }
    }
  }

  int run() {
    const auto& f = find_family();
    check(f);
    Request request;
    request.device = device;
    request.dtype = dtype == "auto" ? f.variant_dtype(variant) : dtype;  // there is no checkpoint to ask
    auto target = resolve_target(request);
    if (dtype == "auto" && target.device.is_cpu()) target.dtype = at::kFloat;
    if (attention.empty()) attention.push_back(attention::default_spec(target.device));
    if (!json_file.empty()) media::probe_whole(json_file);
    count_cpu_tensors();
    BenchTitle title{f.name, variant, device_title(target.device), dtype_name(target.dtype),
                     matmul_rate(target)};
    const auto model = f.bench(variant, target);
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
  auto* command =
      bench->add_subcommand("model", "whole denoising forwards at a released size, with random weights");
  auto state = std::make_shared<BenchModelCommand>();
  command->add_option("--family", state->family, "see sagelab info")->required();
  command->add_option("--variant", state->variant, "a released size")->required();
  command->add_flag("--random-weights", state->random_weights, "no checkpoint: weights and inputs are drawn");
  command->add_option("--attention", state->attention, "backends to compare [the device's default]")
      ->expected(1, -1);
  command->add_option("--device", state->device, "auto, cpu, cuda or cuda:N")
      ->check(CLI::Validator(check_device, "auto|cpu|cuda|cuda:N"));
  command->add_option("--dtype", state->dtype, "auto: the released one on CUDA, fp32 on the CPU")
      ->check(CLI::IsMember({"auto", "fp32", "fp16", "bf16"}));
  command->add_option("--repeat", state->repeat, "timed forwards of each [5]")->check(CLI::Range(1, 10000));
  command->add_option("--warmup", state->warmup, "forwards before [2]")->check(CLI::Range(0, 10000));
  command->add_option("--json", state->json_file, "write the figures to this file");
  command->callback([state, &exit_code] { exit_code = guarded([&] { return state->run(); }); });
}

}  // namespace sagelab
