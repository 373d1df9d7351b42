// SPDX-License-Identifier: Apache-2.0
#include "app/batch/index.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "app/compare/report.h"
#include "app/report/median.h"
#include "app/report/plot_svg.h"

namespace sagelab::batch {
namespace {

using nlohmann::json;

constexpr const char* kStyle = R"(
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:1500px;padding:0 1rem;color:#1a1a1a;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem}
table{border-collapse:collapse}th,td{padding:.25rem .8rem;text-align:right;border-bottom:1px solid #ddd}
th:first-child,td:first-child{text-align:left}.plots{display:flex;flex-wrap:wrap;gap:1rem}
.plots svg{max-width:100%;height:auto}.sample{border-top:1px solid #ddd;padding:1rem 0}
.sample p{margin:.2rem 0;max-width:70rem}.row{display:flex;flex-wrap:wrap;gap:1rem;margin-top:.5rem}
figure{margin:0;flex:1 1 240px;max-width:720px}video,img{width:100%;background:#000}
figcaption,.facts{font-size:.85rem;color:#555}.bad{color:#a30000}
)";
// The videos of one sample start together.
constexpr const char* kScript = R"(
for (const row of document.querySelectorAll('.row')) {
  const videos = [...row.querySelectorAll('video')];
  for (const video of videos) video.addEventListener('play', () => {
    for (const other of videos) if (other !== video && other.paused) { other.currentTime = video.currentTime; other.play(); }
  });
}
)";

// Of one spec, over the samples that have it.
struct Column {
  std::string attention;
  std::vector<double> seconds, steps, ratios;
  std::vector<double> psnr, ssim;  // means of the samples
  json psnr_worst, psnr_worst_of, ssim_worst, ssim_worst_of;
  int identical = 0, compared = 0;
  bool emulated = false, ratio_emulated = false;
};

json mean(const std::vector<double>& values) {
  if (values.empty()) return nullptr;
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / double(values.size());
}

void take(const json& figures, std::vector<double>& means, std::pair<json*, json*> worst, const json& key) {
  if (figures.at("mean").is_null()) return;
  means.push_back(figures.at("mean"));
  if (!worst.first->is_null() && *worst.first <= figures.at("worst")) return;
  *worst.first = figures.at("worst");
  *worst.second = key;
}

// Weights are loaded once for the batch, not for a sample.
double run_seconds(const json& output) {
  const auto& seconds = output.at("seconds");
  return seconds.at("total").get<double>() - seconds.at("load").get<double>();
}

void add(Column& column, const json& output, const json& first, const json& key) {
  const auto step_of = [](const json& o) { return o.at("seconds").at("median_step"); };
  column.emulated = column.emulated || output.at("emulated") == true;
  column.seconds.push_back(run_seconds(output));
  if (!step_of(output).is_null()) column.steps.push_back(step_of(output));
  if (!output.contains("quality")) return;
  column.compared += 1;
  column.ratio_emulated =
      column.ratio_emulated || output.at("emulated") == true || first.at("emulated") == true;
  if (!step_of(output).is_null() && !step_of(first).is_null() && step_of(first) > 0)
    column.ratios.push_back(step_of(output).get<double>() / step_of(first).get<double>());
  const auto& quality = output.at("quality");
  column.identical += quality.at("identical_frames") == quality.at("frames");
  take(quality.at("psnr"), column.psnr, {&column.psnr_worst, &column.psnr_worst_of}, key);
  take(quality.at("ssim"), column.ssim, {&column.ssim_worst, &column.ssim_worst_of}, key);
}

std::vector<Column> columns_of(const Records& records) {
  std::vector<Column> columns;
  for (const auto& [key, record] : records)
    for (const auto& output : record.at("outputs")) {
      if (!output.contains("seconds")) continue;
      const auto name = output.at("attention").get<std::string>();
      auto at =
          std::find_if(columns.begin(), columns.end(), [&](const Column& c) { return c.attention == name; });
      if (at == columns.end()) {
        columns.emplace_back().attention = name;
        at = columns.end() - 1;
      }
      add(*at, output, record.at("outputs").front(), {key.first, key.second});
    }
  return columns;
}

json to_json(const Column& c) {
  json all{{"attention", c.attention},
           {"outputs", c.seconds.size()},
           {"seconds", mean(c.seconds)},
           {"median_step", mean(c.steps)},
           {"emulated", c.emulated}};
  if (c.compared == 0) return all;
  all["time_ratio"] = c.ratio_emulated ? json() : mean(c.ratios);
  all["psnr"] = {{"mean", mean(c.psnr)}, {"worst", c.psnr_worst}, {"worst_of", c.psnr_worst_of}};
  all["ssim"] = {{"mean", mean(c.ssim)}, {"worst", c.ssim_worst}, {"worst_of", c.ssim_worst_of}};
  all["identical"] = c.identical;
  return all;
}

std::string percent_encoded(const std::string& path) {
  std::string out;
  for (const char c : path) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) || std::string_view("-_.~/").find(c) != std::string_view::npos)
      out += c;
    else
      out += fmt::format("%{:02X}", byte);
  }
  return out;
}

std::string anchor(const json& key) {
  return fmt::format("s{}-{}", key[0].get<int>(), key[1].get<int>());
}

std::string number(const json& value, const char* format) {
  return value.is_null() ? "-" : fmt::format(fmt::runtime(format), value.get<double>());
}

std::string worst_cell(const json& figures, const char* format) {
  if (figures.at("worst").is_null()) return "<td>-</td>";
  return fmt::format("<td><a href=\"#{}\">{}</a></td>", anchor(figures.at("worst_of")),
                     number(figures.at("worst"), format));
}

std::string summary_table(const json& summary) {
  std::string out =
      "<table><tr><th>attention</th><th>outputs</th><th>s a step</th><th>s in all</th><th>of the first's time"
      "</th><th>PSNR mean</th><th>PSNR worst</th><th>SSIM mean</th><th>SSIM worst</th><th>equal "
      "videos</th></tr>\n";
  for (const auto& c : summary.at("attention")) {
    const std::string emulated = c.at("emulated") == true ? fmt::format(" ({})", kEmulated) : "";
    out += fmt::format("<tr><td>{}{}</td><td>{}</td><td>{}</td><td>{}</td>",
                       escaped(c.at("attention").get<std::string>()), emulated, c.at("outputs").get<int>(),
                       figure(c.at("median_step"), 3), number(c.at("seconds"), "{:.1f}"));
    if (c.contains("psnr"))
      out += fmt::format("<td>{}</td><td>{}</td>{}<td>{}</td>{}<td>{}</td>",
                         number(c.at("time_ratio"), "{:.2f}"), number(c.at("psnr").at("mean"), "{:.2f} dB"),
                         worst_cell(c.at("psnr"), "{:.2f} dB"), number(c.at("ssim").at("mean"), "{:.4f}"),
                         worst_cell(c.at("ssim"), "{:.4f}"), c.at("identical").get<int>());
    else
      out += "<td></td><td></td><td></td><td></td><td></td><td></td>";
    out += "</tr>\n";
  }
  return out + "</table>\n";
}

using Value = std::function<json(const json& output)>;  // null: no point

// A line for each spec over the samples in the order of the page.
std::string plot(const Records& records, const std::string& title, const std::string& unit,
                 const Value& value) {
  Plot plot{title, "", "sample", unit, {{"", {}}}, true};
  auto& all = plot.panels.front().series;
  int position = 0;
  for (const auto& [key, record] : records) {
    ++position;
    for (const auto& output : record.at("outputs")) {
      if (!output.contains("seconds")) continue;
      const auto name = output.at("attention").get<std::string>();
      auto at = std::find_if(all.begin(), all.end(), [&](const Series& s) { return s.name == name; });
      // One without points keeps its colour, so that a spec has the same in every plot.
      if (at == all.end()) at = all.insert(all.end(), Series{name, {}, false, ""});
      if (const auto y = value(output); !y.is_null()) at->points.emplace_back(position, y.get<double>());
    }
  }
  const bool drawn = std::any_of(all.begin(), all.end(), [](const Series& s) { return !s.points.empty(); });
  return drawn ? to_svg(plot) : "";
}

std::string plots(const Records& records) {
  const auto quality = [](const json& output, const char* figure) {
    return output.contains("quality") ? output.at("quality").at(figure).at("mean") : json();
  };
  const auto psnr = [&](const json& output) { return quality(output, "psnr"); };
  const auto dissimilarity = [&](const json& output) {
    const auto ssim = quality(output, "ssim");
    return ssim.is_null() ? ssim : json(1 - ssim.get<double>());
  };
  const auto step = [](const json& output) { return output.at("seconds").at("median_step"); };
  return "<div class=\"plots\">\n" + plot(records, "PSNR of each sample", "dB", psnr) +
         plot(records, "1 - SSIM of each sample", "1 - SSIM", dissimilarity) +
         plot(records, "Seconds a step", "s", step) + "</div>\n";
}

std::string media_element(const std::string& file, bool many) {
  const auto link = percent_encoded(file);
  if (file.ends_with('/'))
    return fmt::format("<a href=\"{0}\"><img loading=\"lazy\" src=\"{0}frame_0000.png\" alt=\"frames\"></a>",
                       link);
  if (file.ends_with(".png")) return fmt::format("<img loading=\"lazy\" src=\"{}\" alt=\"result\">", link);
  return fmt::format("<video controls loop muted playsinline preload=\"{}\" src=\"{}\"></video>",
                     many ? "none" : "metadata", link);
}

std::string caption(const json& output) {
  const auto name = escaped(output.at("attention").get<std::string>());
  if (output.contains("error"))
    return fmt::format("<b>{}</b> <span class=\"bad\">{}</span> {}", name,
                       escaped(output.at("error").get<std::string>()),
                       escaped(output.value("hint", std::string())));
  if (!output.contains("seconds")) return fmt::format("<b>{}</b>", name);
  const auto& seconds = output.at("seconds");
  auto text = fmt::format("<b>{}</b> {} s a step, {} s{}", name, figure(seconds.at("median_step"), 3),
                          number(run_seconds(output), "{:.1f}"),
                          output.at("emulated") == true ? fmt::format(" ({})", kEmulated) : "");
  if (output.contains("quality")) text += "<br>" + quality_text({{"quality", output.at("quality")}});
  return text;
}

std::string facts(const json& record) {
  auto text =
      fmt::format("line {}, seed {}", record.at("line").get<int>(), record.at("seed").get<uint64_t>());
  const auto& r = record.at("request");
  if (!r.is_null())
    text += fmt::format(", {}x{}, {} frames, {} steps", r.at("width").get<int>(), r.at("height").get<int>(),
                        r.at("num_frames").get<int>(), r.at("steps").get<int>());
  return text;
}

// Of the first sample that tells of both: a batch has one model, and mostly one device.
std::string made_with(const Records& records) {
  for (const auto& [key, record] : records)
    for (const auto& output : record.at("outputs"))
      if (output.contains("device") && record.at("request").contains("model"))
        return fmt::format("<p class=\"facts\">Model {}, on {}.</p>\n",
                           escaped(record.at("request").at("model").get<std::string>()),
                           escaped(output.at("device").get<std::string>()));
  return "";
}

std::string sample_html(const SampleKey& key, const json& record, bool many) {
  auto out = fmt::format("<div class=\"sample\" id=\"{}\"><p>{}</p><div class=\"facts\">{}</div>\n",
                         anchor({key.first, key.second}), escaped(record.at("prompt").get<std::string>()),
                         facts(record));
  if (record.contains("error"))
    out += fmt::format("<p class=\"bad\">{}</p>\n", escaped(record.at("error").get<std::string>()));
  out += "<div class=\"row\">\n";
  for (const auto& output : record.at("outputs")) {
    const auto media = output.contains("seconds") ? media_element(output.at("file").get<std::string>(), many)
                                                  : std::string();
    out += fmt::format("<figure>{}<figcaption>{}</figcaption></figure>\n", media, caption(output));
  }
  return out + "</div></div>\n";
}

}  // namespace

json summary_of(const Records& records) {
  json summary{{"samples", records.size()}, {"attention", json::array()}};
  const auto done = std::count_if(records.begin(), records.end(),
                                  [](const auto& entry) { return entry.second.at("status") == "done"; });
  summary["done"] = done;
  summary["failed"] = int64_t(records.size()) - done;
  for (const auto& column : columns_of(records)) summary["attention"].push_back(to_json(column));
  return summary;
}

std::string summary_text(const json& summary) {
  std::string out;
  for (const auto& c : summary.at("attention")) {
    out += fmt::format("{}: {} outputs, {} s a step{}", c.at("attention").get<std::string>(),
                       c.at("outputs").get<int>(), figure(c.at("median_step"), 3),
                       c.at("emulated") == true ? fmt::format(" ({})", kEmulated) : "");
    if (c.contains("psnr"))
      out += fmt::format("; PSNR {} (worst frame {}), SSIM {} (worst {}), {} equal",
                         number(c.at("psnr").at("mean"), "{:.2f} dB"),
                         number(c.at("psnr").at("worst"), "{:.2f} dB"),
                         number(c.at("ssim").at("mean"), "{:.4f}"),
                         number(c.at("ssim").at("worst"), "{:.4f}"), c.at("identical").get<int>());
    out += "\n";
  }
  return out;
}

std::string index_html(const Records& records) {
  constexpr size_t kMany = 40;  // beyond, a page that fetches the head of every video is slow
  const auto summary = summary_of(records);
  std::string out =
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width\"><title>sagelab batch</title><style>" +
      std::string(kStyle) + "</style></head><body>\n";
  out += fmt::format(
      "<h1>sagelab batch</h1>\n<p>{} samples: {} done{}.</p>\n", summary.at("samples").get<int>(),
      summary.at("done").get<int>(),
      summary.at("failed") == 0 ? "" : fmt::format(", {} failed", summary.at("failed").get<int>()));
  out += made_with(records) + "<h2>Summary</h2>\n" + summary_table(summary);
  out +=
      "<p class=\"facts\">PSNR and SSIM compare 8-bit frames before encoding with those of the sample's "
      "first "
      "attention, by the definitions of scikit-image (SSIM with Gaussian weights, sigma 1.5). The mean is "
      "over "
      "samples, each the mean of its frames (for PSNR of those that differ); the worst is a single frame. "
      "Steps "
      "are medians without the first; seconds in all are without loading.</p>\n";
  out += plots(records) + "<h2>Results</h2>\n";
  for (const auto& [key, record] : records) out += sample_html(key, record, records.size() > kMany);
  return out + "<script>" + kScript + "</script></body></html>\n";
}

}  // namespace sagelab::batch
