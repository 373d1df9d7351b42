// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>

#include "app/commands/bench/attention/attention.h"
#include "app/report/plot_svg.h"
#include "app/system.h"

namespace sagelab::bench {
namespace {

using nlohmann::json;

// What each figure is compared with: LibTorch's best kernels.
constexpr std::array kBaselines{"sdpa(cudnn)", "sdpa(flash)"};

const Row* find(const Result& result, std::string_view spec) {
  for (const auto& row : result.rows)
    if (row.spec == spec && row.run) return &row;
  return nullptr;
}

using Which = std::optional<Timing> Row::*;  // end to end, or the kernel alone

// How many times as fast as the baseline end to end; nothing where that did not run, nor for a kernel alone
// where that is a joint call, which is more than a kernel.
std::optional<double> ratio(const Result& result, std::string_view baseline, const Row& row, Which which) {
  const auto* other = find(result, baseline);
  if (other == nullptr || !(row.*which) || (result.shape.text && which == &Row::kernel)) return {};
  return other->run->median / (row.*which)->median;
}

json timing_json(const Result& result, const Row& row, Which which) {
  const auto& timing = row.*which;
  if (!timing) return nullptr;
  json ratios = json::object();
  for (const auto* baseline : kBaselines)
    if (const auto r = ratio(result, baseline, row, which)) ratios[baseline] = *r;
  return {{"seconds", {{"median", timing->median}, {"min", timing->min}, {"max", timing->max}}},
          {"repeats", timing->repeats},
          {"operations_per_second", operations(result.shape) / timing->median},
          {"times_as_fast_as", ratios}};
}

json row_json(const Result& result, const Row& row) {
  json out{{"backend", row.spec}, {"reason", row.reason.empty() ? json(nullptr) : json(row.reason)}};
  if (!row.run) return out;
  out["served"] = row.served;
  out["end_to_end"] = timing_json(result, row, &Row::run);
  out["kernel"] = timing_json(result, row, &Row::kernel);
  out["errors"] = {{"cosine", row.errors.cosine},
                   {"one_minus_cosine", 1 - row.errors.cosine},
                   {"relative_l1", row.errors.relative_l1},
                   {"rmse", row.errors.rmse},
                   {"max_abs", row.errors.max_abs}};
  return out;
}

std::string shape_line(const Result& result) {
  const auto& s = result.shape;
  return fmt::format(
      "{} tokens{}, head dim {}, batch {}, {} heads{}, {}: {:.4g} TOP a call, {} set{} of inputs", s.tokens,
      s.text ? fmt::format(", {} of them text", *s.text) : "", s.head_dim, s.batch, s.heads,
      s.heads == s.kv_heads ? "" : fmt::format(" over {} of k and v", s.kv_heads),
      s.causal ? "causal" : "full", operations(s) * 1e-12, result.input_sets,
      result.input_sets == 1 ? "" : "s");
}

std::string cell(const std::optional<double>& value, const char* format, int width) {
  return fmt::format("{:>{}}", value ? fmt::format(fmt::runtime(format), *value) : "-", width);
}

std::string timing_cells(const Result& result, const Row& row, Which which) {
  const auto& timing = row.*which;
  const auto of = [&](double factor) {
    return timing ? std::optional(timing->median * factor) : std::nullopt;
  };
  const auto rate = timing ? std::optional(operations(result.shape) / timing->median * 1e-12) : std::nullopt;
  std::string out = cell(of(1e3), "{:.4g}", 11) + cell(rate, "{:.4g}", 10);
  for (const auto* baseline : kBaselines) out += cell(ratio(result, baseline, row, which), "{:.3f}", 8);
  return out;
}

std::string title_line(const Title& title, const Settings& settings) {
  return fmt::format("attention{} on {}, {}, {} inputs (seed {})",
                     title.joint ? " with norm, RoPE and concatenation" : "", title.device, title.dtype,
                     settings.distribution, settings.seed);
}

std::string rows_table(const Result& result, size_t width) {
  std::string out = fmt::format("{:<{}}{:>11}{:>10}{:>8}{:>8}{:>11}{:>10}{:>8}{:>8}{:>11}{:>10}{:>10}\n",
                                "backend", width, "end to end", "TOPS", "/cudnn", "/flash", "kernel", "TOPS",
                                "/cudnn", "/flash", "1-cosine", "rel. L1", "RMSE");
  for (const auto& row : result.rows) {
    if (!row.run) {
      out +=
          fmt::format("{:<{}}  {}: {}\n", row.spec, width, row.failed ? "failed" : "cannot run", row.reason);
      continue;
    }
    out += fmt::format("{:<{}}{}{}{:>11.2e}{:>10.2e}{:>10.2e}", row.spec, width,
                       timing_cells(result, row, &Row::run), timing_cells(result, row, &Row::kernel),
                       1 - row.errors.cosine, row.errors.relative_l1, row.errors.rmse);
    out += row.served == row.spec ? "\n" : fmt::format("  by {}\n", row.served);
  }
  return out;
}

// TOPS of one backend over the tokens of the group, end to end or of its kernel.
Series series_of(const std::string& spec, const std::vector<const Result*>& group, Which timing) {
  Series series{.name = spec, .points = {}, .dashed = false, .colour_of = {}};
  for (const auto* result : group)
    for (const auto& row : result->rows)
      if (row.spec == spec && row.*timing)
        series.points.emplace_back(double(result->shape.tokens),
                                   operations(result->shape) / (row.*timing)->median * 1e-12);
  std::sort(series.points.begin(), series.points.end());
  return series;
}

Panel panel_of(const Settings& settings, const std::vector<const Result*>& group) {
  const auto& s = group.front()->shape;
  Panel panel;
  panel.title = fmt::format("head dim {}, {}, batch {}, {} heads", s.head_dim, s.causal ? "causal" : "full",
                            s.batch, s.heads);
  for (const auto& [spec, backend] : settings.candidates) {
    panel.series.push_back(series_of(spec, group, &Row::run));
    auto kernel = series_of(spec, group, &Row::kernel);
    kernel.name += " kernel", kernel.dashed = true, kernel.colour_of = spec;
    panel.series.push_back(std::move(kernel));
  }
  return panel;
}

}  // namespace

std::string heading_of(const Title& title, const Settings& settings) {
  std::string out = title_line(title, settings) + "\n";
  out += title.joint
             ? "end to end: a joint call, with norm and RoPE of q and k and the concatenation of text and "
               "the rest\n"
               "kernel: attention alone, on operands made ready before; no joint call is compared with it\n"
             : "end to end: a call on q, k and v as they are; kernel: attention alone, on operands made "
               "ready before\n";
  out += fmt::format(
      "ms, median of up to {}; /cudnn, /flash: times as fast as sdpa(cudnn), sdpa(flash) end to end\n"
      "errors: against fp64{} on up to {} rows of each head\n",
      settings.repeat, title.joint ? ", of norm and RoPE too," : "", settings.rows);
  if (settings.target.device.is_cpu())
    out += "kernels made for GPUs are emulated on the CPU: their quality counts here, not their speed\n";
  return out;
}

json to_json(const Title& title, const Settings& settings, const std::vector<Result>& results) {
  json out{
      {"device", title.device}, {"dtype", title.dtype},           {"distribution", settings.distribution},
      {"seed", settings.seed},  {"rows_compared", settings.rows}, {"versions", versions()},
      {"shapes", json::array()}};
  for (const auto& result : results) {
    const auto& s = result.shape;
    json rows = json::array();
    for (const auto& row : result.rows) rows.push_back(row_json(result, row));
    out["shapes"].push_back({{"batch", s.batch},
                             {"heads", s.heads},
                             {"kv_heads", s.kv_heads},
                             {"tokens", s.tokens},
                             {"head_dim", s.head_dim},
                             {"causal", s.causal},
                             {"joint", s.text ? json{{"text", *s.text}} : json(nullptr)},
                             {"operations", operations(s)},
                             {"input_sets", result.input_sets},
                             {"backends", rows}});
  }
  return out;
}

std::string table_of(const Settings& settings, const Result& result) {
  size_t width = 16;
  for (const auto& candidate : settings.candidates) width = std::max(width, candidate.spec.size() + 2);
  return "\n" + shape_line(result) + "\n" + rows_table(result, width);
}

std::string plot_of(const Title& title, const Settings& settings, const std::vector<Result>& results) {
  std::map<int64_t, std::vector<const Result*>> by_head_dim;
  for (const auto& result : results) by_head_dim[result.shape.head_dim].push_back(&result);
  Plot plot;
  plot.title = title_line(title, settings);
  plot.subtitle = "solid: end to end, dashed: the attention kernel alone";
  plot.x_label = "tokens";
  plot.y_label = "TOPS";
  for (const auto& [head_dim, group] : by_head_dim) plot.panels.push_back(panel_of(settings, group));
  return to_svg(plot);
}

}  // namespace sagelab::bench
