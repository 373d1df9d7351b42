// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>

#include "app/commands/bench/attention/attention.h"
#include "app/commands/bench/bench.h"
#include "app/commands/bench/timing.h"
#include "app/failure.h"
#include "app/interrupt.h"
#include "app/media/file.h"
#include "app/options.h"
#include "app/system.h"
#include "attention/dtype.h"
#include "attention/registry.h"

namespace sagelab {
namespace {

using bench::Settings;
using bench::Shape;

constexpr int64_t kText = 256;

struct BenchAttentionCommand {
  std::vector<int64_t> tokens, head_dims{128};
  int64_t batch = 0, heads = 0, kv_heads = 0;  // 0: what suits the device
  bool causal = false, joint = false;
  std::optional<int64_t> text;
  std::optional<double> settle;
  std::vector<std::string> backends;
  std::string device = "auto", dtype = "auto", json_file, plot_file;
  Settings settings;

  void resolve() {
    Request request;
    request.device = device;
    request.dtype = dtype == "auto" ? "fp32" : dtype;  // there is no checkpoint to ask
    settings.target = resolve_target(request);
    const bool cuda = settings.target.device.is_cuda();
    if (dtype == "auto" && cuda) settings.target.dtype = at::kBFloat16;
    settings.settle_seconds = settle.value_or(cuda ? kSettleSeconds : 0);
    settings.cache_bytes = device_info(settings.target.device).cache_bytes;
    if (tokens.empty())
      tokens = cuda ? std::vector<int64_t>{1024, 2048, 4096, 8192, 16384, 32768}
                    : std::vector<int64_t>{256, 512, 1024};
    if (batch == 0) batch = cuda ? 4 : 1;
    if (heads == 0) heads = cuda ? 32 : 4;
    if (kv_heads == 0) kv_heads = heads;
    if (heads % kv_heads != 0)
      throw UsageError(fmt::format("{} heads are no multiple of {} of k and v", heads, kv_heads),
                       "choose --kv-heads that divides --heads");
    check_joint();
  }

  void check_joint() const {
    if (text && !joint) throw UsageError("--text is of joint calls", "add --joint");
    if (!joint) return;
    if (causal) throw UsageError("joint calls have no causal mask", "leave out --joint or --causal");
    if (kv_heads != heads)
      throw UsageError(
          fmt::format("joint calls have as many heads of k and v as of q, not {} for {}", kv_heads, heads),
          "leave out --joint or --kv-heads");
    for (const auto dim : head_dims)
      if (dim % 2 != 0)
        throw UsageError(fmt::format("RoPE turns pairs, and {} is odd", dim), "choose an even --head-dim");
    const int64_t fewest = *std::min_element(tokens.begin(), tokens.end());
    if (text && *text > fewest)
      throw UsageError(fmt::format("{} tokens of text are more than the {} of --seq", *text, fewest),
                       fmt::format("choose --text from 0 to {}", fewest));
  }

  std::optional<int64_t> text_of(int64_t count) const {
    if (!joint) return {};
    return text.value_or(std::min(kText, count / 2));
  }

  std::vector<Shape> shapes() const {
    std::vector<Shape> all;
    for (const auto dim : head_dims)
      for (const auto n : tokens)
        all.push_back({.batch = batch,
                       .heads = heads,
                       .kv_heads = kv_heads,
                       .tokens = n,
                       .head_dim = dim,
                       .causal = causal,
                       .text = text_of(n)});
    return all;
  }

  // Those that were asked for, or every entry that can run one of the shapes.
  void choose_backends() {
    for (const auto& spec : backends) {
      try {
        settings.candidates.push_back({spec, attention::make_backend(spec)});
      } catch (const Error& e) {
        throw UsageError(e.what(), e.hint());
      }
    }
    if (!backends.empty()) return;
    for (const auto& entry : attention::backends()) {
      const auto backend = attention::make_backend(entry.spec);
      const auto all = shapes();
      if (std::any_of(all.begin(), all.end(), [&](const Shape& s) { return reason(*backend, s).empty(); }))
        settings.candidates.push_back({std::string(entry.spec), backend});
    }
  }

  std::string reason(const attention::Backend& backend, const Shape& s) const {
    return backend.unsupported({.batch = s.batch,
                                .heads = s.heads,
                                .kv_heads = s.kv_heads,
                                .q_len = s.tokens,
                                .kv_len = s.tokens,
                                .head_dim = s.head_dim,
                                .dtype = settings.target.dtype,
                                .device = settings.target.device,
                                .causal = s.causal});
  }

  // Each shape is shown, and the files are written anew, as soon as it is measured: a bench can take long.
  int run() {
    resolve();
    choose_backends();
    for (const auto& file : {json_file, plot_file})
      if (!file.empty()) media::probe_whole(file);
    catch_interrupt();
    const bench::Title title{device_title(settings.target.device), dtype_name(settings.target.dtype), joint};
    print(heading_of(title, settings));
    std::vector<bench::Result> results;
    for (const auto& shape : shapes()) {
      if (interrupted()) break;
      results.push_back(bench::measure(shape, settings));
      print(table_of(settings, results.back()));
      if (!json_file.empty())
        media::write_whole(json_file, json_text(to_json(title, settings, results), 2) + "\n");
      if (!plot_file.empty()) media::write_whole(plot_file, plot_of(title, settings, results));
    }
    if (interrupted()) return kInterrupted;
    const auto broken = [](const bench::Row& row) { return row.failed; };
    return std::any_of(results.begin(), results.end(),
                       [&](const auto& r) { return std::any_of(r.rows.begin(), r.rows.end(), broken); })
               ? kFailed
               : kDone;
  }
};

std::string distribution_help() {
  std::string help = "what the inputs are drawn from [normal]:";
  for (const auto& d : bench::distributions()) help += fmt::format("\n{}: {}", d.name, d.help);
  return help;
}

std::vector<std::string> distribution_names() {
  std::vector<std::string> names;
  for (const auto& d : bench::distributions()) names.emplace_back(d.name);
  return names;
}

}  // namespace

void add_bench_attention(CLI::App& bench, int& exit_code) {
  auto* command = bench.add_subcommand("attention", "time and error of attention backends, side by side");
  auto state = std::make_shared<BenchAttentionCommand>();
  const auto counts = [&](const char* flag, std::vector<int64_t>& value, const char* help) {
    command->add_option(flag, value, help)->expected(1, -1)->check(CLI::PositiveNumber);
  };
  counts("--seq", state->tokens, "numbers of tokens [1K to 32K on CUDA, 256 to 1024 on the CPU]");
  counts("--head-dim", state->head_dims, "head dimensions [128]");
  command->add_option("--batch", state->batch, "[4 on CUDA, 1 on the CPU]")->check(CLI::PositiveNumber);
  command->add_option("--heads", state->heads, "of q [32 on CUDA, 4 on the CPU]")->check(CLI::PositiveNumber);
  command->add_option("--kv-heads", state->kv_heads, "of k and v [as many as of q]")
      ->check(CLI::PositiveNumber);
  command->add_flag("--causal", state->causal, "with a causal mask");
  command->add_flag(
      "--joint", state->joint,
      "whole joint calls of text, then the rest: RMS norm of q and k, RoPE of the rest on a square "
      "grid, concatenation and attention");
  command->add_option("--text", state->text, "tokens of text among those of a joint call [256, at most half]")
      ->check(CLI::NonNegativeNumber);
  command
      ->add_option("--backends", state->backends,
                   "specs [every backend of `info` that can run]; unfused(a): a without our fused passes")
      ->expected(1, -1);
  command->add_option("--distribution", state->settings.distribution, distribution_help())
      ->check(CLI::IsMember(distribution_names()));
  command->add_option("--seed", state->settings.seed, "of the inputs [0]");
  command->add_option("--device", state->device, "auto, cpu, cuda or cuda:N")
      ->check(CLI::Validator(check_device, "auto|cpu|cuda|cuda:N"));
  command->add_option("--dtype", state->dtype, "auto: bf16 on CUDA, fp32 on the CPU")
      ->check(CLI::IsMember({"auto", "fp32", "fp16", "bf16"}));
  command->add_option("--repeat", state->settings.repeat, "timed calls of each, fewer where one is slow [20]")
      ->check(CLI::Range(1, 10000));
  command
      ->add_option("--warmup", state->settings.warmup,
                   "calls before the first turn [3], or as many as --settle asks for")
      ->check(CLI::Range(0, 10000));
  command
      ->add_option("--settle", state->settle,
                   "seconds of calls before each turn, where a call is shorter [.2 on CUDA, 0 on the CPU]")
      ->check(CLI::Range(0., 60.));
  command->add_option("--json", state->json_file, "write the figures to this file");
  command->add_option("--plot", state->plot_file, "write TOPS over tokens to this file, as SVG");
  command->callback([state, &exit_code] { exit_code = guarded([&] { return state->run(); }); });
}

}  // namespace sagelab
