// SPDX-License-Identifier: Apache-2.0
// `bench accumulator`: what attention/study/accumulator.h measures, as a table and JSON.
#include "attention/study/accumulator.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "app/commands/bench/bench.h"
#include "app/failure.h"
#include "app/media/file.h"
#include "app/options.h"
#include "app/system.h"
#include "pipelines/registry.h"

namespace sagelab {
namespace {

namespace study = attention::study;

constexpr int64_t kLengths[] = {1024, 4096, 16384, 65536};
constexpr int64_t kFlushes[] = {0, 128, 64, 32};  // keys; 0: at the end alone

std::string flush_name(int64_t keys) {
  return keys == 0 ? "never" : fmt::format("every {}", keys);
}

struct BenchAccumulatorCommand {
  std::string device = "auto", json_file;

  at::Device resolve_device() const {
    Request request;
    request.device = device;
    request.dtype = "fp32";
    const at::Device on = resolve_target(request).device;
    const std::string reason = study::accumulators_unsupported(on);
    if (!reason.empty())
      throw Error(fmt::format("bench accumulator cannot run here: {}", reason),
                  "run it on an Ada, Hopper or newer GPU");
    return on;
  }

  nlohmann::json probes(const at::Device& on) const {
    print(
        fmt::format("\nD = A B + D by one instruction, {} values of D with all 23 bits of the mantissa in "
                    "use\n{:24} {:>9} {:>10}  {:12} {}\n",
                    study::kProbes, "", "A B", "bits kept", "the rest",
                    "|result| - |exact|, in units of the last bit kept"));
    nlohmann::json rows = nlohmann::json::array();
    for (const auto instruction : study::instructions_of(on)) {
      for (const double product : study::kProducts) {
        const auto [_, value, kept] = study::probe(instruction, product, on);
        print(fmt::format("{:24} {:9.3g} {:10}  {:12} {:+.4f} to {:+.4f}\n", study::name_of(instruction),
                          value, kept.bits, kept.rest(), kept.lowest, kept.highest));
        rows.push_back({{"instruction", study::name_of(instruction)},
                        {"product", value},
                        {"bits", kept.bits},
                        {"rest", kept.rest()},
                        {"lowest", kept.lowest},
                        {"highest", kept.highest}});
      }
    }
    return rows;
  }

  nlohmann::json flushes(const at::Device& on) const {
    std::string head = fmt::format("{:24} {:>7}", "", "keys");
    for (const int64_t flush : kFlushes) head += fmt::format(" {:>10}", flush_name(flush));
    print(
        fmt::format("\nP V, {} queries and {} channels: relative L2 error against fp64, by how often the "
                    "accumulator is emptied into fp32\n{}\n",
                    study::kQueries, study::kChannels, head));
    nlohmann::json rows = nlohmann::json::array();
    for (const int64_t keys : kLengths) {
      const auto operands = study::draw_operands(keys, on);
      for (const auto instruction : study::instructions_of(on)) {
        std::string line = fmt::format("{:24} {:7}", study::name_of(instruction), keys);
        for (const int64_t flush : kFlushes) {
          const auto product = study::multiply(instruction, operands, flush == 0 ? keys : flush);
          const double error = study::relative_error(product, operands);
          line += fmt::format(" {:10.3e}", error);
          rows.push_back({{"instruction", study::name_of(instruction)},
                          {"keys", keys},
                          {"flush_keys", flush == 0 ? keys : flush},
                          {"relative_l2", error}});
        }
        print(line + "\n");
      }
    }
    return rows;
  }

  int run() const {
    const at::Device on = resolve_device();
    if (!json_file.empty()) media::probe_whole(json_file);
    const auto info = device_info(on);
    print(fmt::format("accumulators of {}, compute capability {}\n", device_title(on), info.capability));
    if (info.capability == "9.0")
      print("mma.sync with e4m3 is no instruction of this chip: the assembler makes f16 products of it\n");
    nlohmann::json all{{"device", info.name}, {"capability", info.capability}};
    all["probes"] = probes(on);
    all["flushes"] = flushes(on);
    if (!json_file.empty()) media::write_whole(json_file, json_text(all, 2) + "\n");
    return kDone;
  }
};

}  // namespace

void add_bench_accumulator(CLI::App& bench, int& exit_code) {
  auto* command = bench.add_subcommand(
      "accumulator", "the bits that FP8 accumulators keep, and what emptying them into fp32 buys");
  auto state = std::make_shared<BenchAccumulatorCommand>();
  command->add_option("--device", state->device, "auto, cuda or cuda:N")
      ->check(CLI::Validator(check_device, "auto|cpu|cuda|cuda:N"));
  command->add_option("--json", state->json_file, "write the figures to this file");
  command->callback([state, &exit_code] { exit_code = guarded([&] { return state->run(); }); });
}

}  // namespace sagelab
