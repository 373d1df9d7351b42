// SPDX-License-Identifier: Apache-2.0
#include "app/commands/bench/model.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>

#include "app/commands/bench/timing.h"
#include "attention/error.h"
#include "attention/registry.h"
#include "pipelines/footprint.h"

namespace sagelab {
namespace {

constexpr double kStdLow = 1e-2, kStdHigh = 1e2;
constexpr int64_t kMatmulCuda = 8192, kMatmulCpu = 1024;

class Bench {
 public:
  Bench(const BenchModel& model, const BenchSettings& settings, const std::string& spec)
      : model_(model), device_(settings.target.device), backend_(attention::make_backend(spec)) {
    row_.attention = spec;
  }

  void run_once() {
    attention::Recorder recorder;
    model_.forward(forward(recorder));
  }

  // A pass of its own: looking at every block stalls the stream.
  void check() {
    attention::Recorder recorder;
    auto looking = forward(recorder);
    row_.std_low = std::numeric_limits<double>::infinity();
    looking.observe = [this](const std::string& name, const at::Tensor& value) {
      if (name.starts_with("block.") || name.starts_with("single.")) check_block(name, value);
    };
    check_finite("the prediction", model_.forward(looking));
    if (row_.blocks == 0) throw Error("the model shows no block to check");
    std::vector<std::string> names;
    for (const auto& [name, served] : recorder.served())
      names.push_back(fmt::format("{} x {}", name, served.calls));
    row_.served = fmt::format("{}", fmt::join(names, ", "));
  }

  void time() {
    seconds_.push_back(seconds_of(device_, [this] { run_once(); }));
  }

  void profile() {
    reset_tensor_peak(device_);
    attention::Recorder recorder;
    Profile profile(device_);
    auto profiled = forward(recorder);
    profiled.profile = &profile;
    row_.profiled = seconds_of(device_, [&] { model_.forward(profiled); });
    row_.profile = profile.seconds();
    double named = 0;
    for (const auto& [section, seconds] : row_.profile) named += section == "rest" ? 0 : seconds;
    row_.profile["rest"] = std::max(0.0, row_.profiled - named);
    row_.peak_bytes = peak_tensor_bytes(device_);
  }

  BenchRow row() {
    row_.median = median(seconds_);
    const auto [low, high] = std::minmax_element(seconds_.begin(), seconds_.end());
    row_.min = *low;
    row_.max = *high;
    return row_;
  }

 private:
  Forward forward(attention::Recorder& recorder) const {
    return Forward{*backend_, recorder, {.branch = attention::Branch::Both}, {}};
  }

  void check_finite(const std::string& name, const at::Tensor& value) const {
    if (!at::isfinite(value).all().item<bool>())
      throw Error(
          fmt::format("{} with {}: the output holds values that are not finite", name, row_.attention));
  }

  void check_block(const std::string& name, const at::Tensor& value) {
    check_finite(name, value);
    const auto number = value.to(at::kFloat).std().item<double>();
    if (!(number >= kStdLow && number <= kStdHigh))
      throw Error(fmt::format("{} with {}: the output's standard deviation {:.3g} leaves [{}, {}]", name,
                              row_.attention, number, kStdLow, kStdHigh));
    row_.std_low = std::min(row_.std_low, number);
    row_.std_high = std::max(row_.std_high, number);
    row_.blocks += 1;
  }

  const BenchModel& model_;
  at::Device device_;
  attention::BackendPtr backend_;
  BenchRow row_;
  std::vector<double> seconds_;
};

}  // namespace

std::vector<BenchRow> bench_model(const BenchModel& model, const BenchSettings& settings) {
  const c10::InferenceMode inference;
  std::vector<Bench> benches;
  for (const auto& spec : settings.attention) benches.emplace_back(model, settings, spec);
  for (auto& bench : benches) {
    bench.check();
    for (int i = 0; i < settings.warmup; ++i) bench.run_once();
  }
  wait_for(settings.target.device);
  // Rounds over all specs, so that a drifting clock meets each of them alike.
  for (int i = 0; i < settings.repeat; ++i)
    for (auto& bench : benches) bench.time();
  std::vector<BenchRow> rows;
  for (auto& bench : benches) {
    bench.profile();
    rows.push_back(bench.row());
  }
  return rows;
}

MatmulRate matmul_rate(const Target& target, int64_t size) {
  const c10::InferenceMode inference;
  constexpr int kRounds = 7;
  if (size == 0) size = target.device.is_cpu() ? kMatmulCpu : kMatmulCuda;
  const auto options = at::TensorOptions().device(target.device).dtype(at::kBFloat16);
  const auto a = at::randn({size, size}, options), b = at::randn({size, size}, options);
  auto out = at::empty({size, size}, options);
  std::vector<double> seconds;
  for (int i = 0; i < kRounds + 2; ++i) {
    const auto once = seconds_of(target.device, [&] { at::mm_out(out, a, b); });
    if (i >= 2) seconds.push_back(once);
  }
  return {size, "bf16", 2.0 * double(size) * double(size) * double(size) / median(seconds)};
}

nlohmann::json bench_json(const BenchTitle& title, const BenchModel& model,
                          const std::vector<BenchRow>& rows) {
  nlohmann::json out{{"family", title.family},
                     {"variant", title.variant},
                     {"device", title.device},
                     {"dtype", title.dtype},
                     {"tokens", model.tokens},
                     {"latent_shape", model.latent_shape},
                     {"flops", model.flops},
                     {"matmul",
                      {{"size", title.matmul.size},
                       {"dtype", title.matmul.dtype},
                       {"flops_per_second", title.matmul.flops_per_second}}},
                     {"rows", nlohmann::json::array()}};
  for (const auto& row : rows)
    out["rows"].push_back(
        {{"attention", row.attention},
         {"served", row.served},
         {"seconds", {{"median", row.median}, {"min", row.min}, {"max", row.max}}},
         {"flops_per_second", model.flops / row.median},
         {"ratio", rows.front().median / row.median},
         {"profile", row.profile},
         {"profiled_seconds", row.profiled},
         {"peak_bytes", row.peak_bytes},
         {"blocks", {{"count", row.blocks}, {"std_low", row.std_low}, {"std_high", row.std_high}}}});
  return out;
}

std::string bench_table(const BenchTitle& title, const BenchModel& model, const std::vector<BenchRow>& rows) {
  size_t width = 10;
  for (const auto& row : rows) width = std::max(width, row.attention.size());
  std::string out = fmt::format("{} {} with random weights, {}, {}\n", title.family, title.variant,
                                title.dtype, title.device);
  out += fmt::format("one forward: latents {}, {} tokens a sample, {:.4g} TFLOP\n", model.latent_shape,
                     model.tokens, model.flops * 1e-12);
  out += fmt::format("{}^3 {} matmul: {:.4g} TFLOP/s\n\n", title.matmul.size, title.matmul.dtype,
                     title.matmul.flops_per_second * 1e-12);
  out += fmt::format("{:<{}}  {:>10} {:>10} {:>10} {:>9} {:>9} {:>7} {:>9}  block std\n", "attention", width,
                     "median ms", "min", "max", "TFLOP/s", "of matmul", "ratio", "peak GB");
  for (const auto& row : rows) {
    const double rate = model.flops / row.median;
    out += fmt::format(
        "{:<{}}  {:>10.2f} {:>10.2f} {:>10.2f} {:>9.4g} {:>8.1f}% {:>7.3f} {:>9.2f}  {:.2g} to {:.2g}\n",
        row.attention, width, row.median * 1e3, row.min * 1e3, row.max * 1e3, rate * 1e-12,
        100 * rate / title.matmul.flops_per_second, rows.front().median / row.median,
        double(row.peak_bytes) * 1e-9, row.std_low, row.std_high);
  }
  for (const auto& row : rows) {
    out += fmt::format("\nprofile of {} (served: {}), {:.2f} ms\n", row.attention, row.served,
                       row.profiled * 1e3);
    for (const auto& [section, seconds] : row.profile)
      out += fmt::format("  {:<12}{:>10.2f} ms {:>6.1f} %\n", section, seconds * 1e3,
                         100 * seconds / row.profiled);
  }
  return out;
}

}  // namespace sagelab
