// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "app/commands/bench/accuracy/accuracy.h"
#include "app/commands/bench/bench.h"
#include "app/failure.h"
#include "app/media/file.h"
#include "app/options.h"
#include "app/system.h"
#include "pipelines/registry.h"

namespace sagelab {
namespace {

using attention::study::Table;
using bench::LayerSet;

struct BenchAccuracyCommand {
  std::vector<std::string> sets, tables;
  std::string input, device = "auto", json_file;
  int64_t tiles = 8;

  at::Device resolve_device() const {
    Request request;
    request.device = device;
    request.dtype = "fp32";
    return resolve_target(request).device;
  }

  // All but the largest where none is named: that one takes minutes on a CPU.
  std::vector<LayerSet> layer_sets(at::Device on) const {
    if (!input.empty()) return {bench::file_set(input, on)};
    std::vector<LayerSet> all;
    for (const auto& info : attention::study::sets()) {
      const std::string name(info.name);
      const bool named = std::find(sets.begin(), sets.end(), name) != sets.end();
      if (!named && (!sets.empty() || (name == "video" && on.is_cpu()))) continue;
      all.push_back({name, std::string(info.help), attention::study::kLayers,
                     [name, on](int layer) { return attention::study::draw(name, layer, on); }});
    }
    return all;
  }

  std::vector<const Table*> chosen_tables() const {
    std::vector<const Table*> chosen;
    for (const Table& table : attention::study::tables())
      if (tables.empty() || std::find(tables.begin(), tables.end(), table.name) != tables.end())
        chosen.push_back(&table);
    return chosen;
  }

  int run() {
    const at::Device on = resolve_device();
    if (!json_file.empty()) media::probe_whole(json_file);
    nlohmann::json all = nlohmann::json::array();
    print(fmt::format("{}; {} tiles of 128 queries in each layer, against fp64\n", device_title(on), tiles));
    for (const LayerSet& set : layer_sets(on)) {
      print(fmt::format("\n{}: {}\n", set.name, set.help));
      const auto progress = [&](int done, int count) {
        fmt::print(stderr, "{}: layer {} of {}\n", set.name, done, count);
      };
      for (const auto& result : bench::study_set(set, chosen_tables(), tiles, progress)) {
        print(fmt::format("\n{}", bench::study_text(result)));
        all.push_back(bench::study_json(result));
      }
      if (!json_file.empty()) media::write_whole(json_file, json_text(all, 2) + "\n");
    }
    return kDone;
  }
};

template <class Items>
std::vector<std::string> names_of(const Items& items) {
  std::vector<std::string> names;
  for (const auto& item : items) names.emplace_back(item.name);
  return names;
}

}  // namespace

void add_bench_accuracy(CLI::App& bench, int& exit_code) {
  auto* command =
      bench.add_subcommand("accuracy", "what the choices of SageAttention2 cost, as in its paper");
  auto state = std::make_shared<BenchAccuracyCommand>();
  std::string help = "synthetic layers [all; video on CUDA only]:";
  for (const auto& set : attention::study::sets()) help += fmt::format("\n{}: {}", set.name, set.help);
  auto* sets = command->add_option("--sets", state->sets, help);
  sets->expected(1, -1)->check(CLI::IsMember(names_of(attention::study::sets())));
  command
      ->add_option(
          "--input", state->input,
          "a folder of layers, safetensors files with q, k and v [B, S, H, D], instead of synthetic ones")
      ->excludes(sets);
  command->add_option("--tables", state->tables, "studies [all]")
      ->expected(1, -1)
      ->check(CLI::IsMember(names_of(attention::study::tables())));
  command->add_option("--tiles", state->tiles, "of 128 queries, compared in each layer [8]")
      ->check(CLI::Range(1, 100000));
  command->add_option("--device", state->device, "auto, cpu, cuda or cuda:N")
      ->check(CLI::Validator(check_device, "auto|cpu|cuda|cuda:N"));
  command->add_option("--json", state->json_file, "write the figures to this file");
  command->callback([state, &exit_code] { exit_code = guarded([&] { return state->run(); }); });
}

}  // namespace sagelab
