// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "app/compare/report.h"
#include "app/failure.h"
#include "app/report/heat_map.h"
#include "app/report/plot_svg.h"

namespace sagelab {
namespace {

using nlohmann::json;

constexpr const char* kPageStyle = R"(
body{font:15px/1.5 system-ui,sans-serif;color:#1d1f21;background:#fff;margin:2rem auto;max-width:1180px;padding:0 1rem}
h1{font-size:1.6rem;margin:0 0 .2rem}h2{font-size:1.15rem;margin:2.2rem 0 .6rem;border-bottom:1px solid #ddd}
table{border-collapse:collapse;margin:.6rem 0}td,th{padding:.25rem .8rem;border-bottom:1px solid #e4e4e4;text-align:right}
td:first-child,th:first-child{text-align:left}.floor{color:#777}.wide{overflow-x:auto}
figure{margin:0 0 1rem}video,img{max-width:100%;background:#181818}.videos{display:flex;flex-wrap:wrap;gap:1rem}.videos figure{margin:0;flex:1 1 320px}
.videos video,.videos img{width:100%;image-rendering:auto}figcaption{color:#555}.note{color:#555}
.mark{background:#fff3cd;padding:.1rem .5rem;border-radius:.3rem}pre{white-space:pre-wrap;background:#f6f6f6;padding:1rem}
)";

std::string base64(const std::string& bytes) {
  constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t n = std::min<size_t>(3, bytes.size() - i);
    uint32_t word = 0;
    for (size_t k = 0; k < 3; ++k) word = word << 8 | (k < n ? uint8_t(bytes[i + k]) : 0);
    for (size_t k = 0; k < 4; ++k) out += k <= n ? kLetters[word >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

std::string name_of(const json& run) {
  return run.at("label").get<std::string>() + "  " + run.at("spec").get<std::string>();
}

// Those that are compared with a.
std::vector<json> others(const json& report) {
  const auto& runs = report.at("runs");
  return {runs.begin() + 1, runs.end()};
}

std::string shown(const Embedded& file) {
  const auto data = fmt::format("data:{};base64,{}", file.mime, base64(file.bytes));
  if (file.mime.starts_with("image"))
    return fmt::format("<img src=\"{}\" alt=\"{}\">", data, escaped(file.name));
  return fmt::format("<video src=\"{}\" controls loop muted autoplay playsinline></video>", data);
}

std::string videos(const json& report, const std::vector<Embedded>& files) {
  std::string single, wide;
  for (const auto& file : files) {
    const auto stem = file.name.substr(0, file.name.find('.'));
    const auto& runs = report.at("runs");
    const auto run =
        std::find_if(runs.begin(), runs.end(), [&](const json& r) { return r.at("label") == stem; });
    const auto caption =
        run == runs.end() ? escaped(file.name) : escaped(name_of(*run) + ": " + time_text(*run));
    (run == runs.end() ? wide : single) +=
        fmt::format("<figure>{}<figcaption>{}</figcaption></figure>\n", shown(file), caption);
  }
  if (single.empty())
    single = "<p>The frames are in folders beside this page: MP4 could not be written.</p>\n";
  return fmt::format("<div class=\"videos\">\n{}</div>\n{}", single, wide);
}

class HtmlTable {
 public:
  explicit HtmlTable(const std::vector<std::string>& head) { row(head, "th"); }
  void row(const std::vector<std::string>& cells, const char* tag = "td") {
    out_ += "<tr>";
    for (size_t i = 0; i < cells.size(); ++i)
      out_ += fmt::format("<{0}{1}>{2}</{0}>", tag, i == 1 ? " class=\"floor\"" : "", escaped(cells[i]));
    out_ += "</tr>\n";
  }
  std::string html() const { return "<div class=\"wide\"><table>\n" + out_ + "</table></div>\n"; }

 private:
  std::string out_;
};

using Reader = std::function<std::string(const json& figures)>;

// The largest of a list's values; null where there is none.
json largest(const json& list, const char* key) {
  json most;
  for (const auto& entry : list)
    if (!entry.at(key).is_null() && (most.is_null() || entry.at(key) > most)) most = entry.at(key);
  return most;
}

json mean_of(const json& list, const char* key) {
  double sum = 0;
  for (const auto& entry : list) sum += entry.at(key).is_null() ? 0 : entry.at(key).get<double>();
  return list.empty() ? json() : json(sum / double(list.size()));
}

std::vector<std::pair<std::string, Reader>> quality_rows(const json& report) {
  const auto frames = [](const char* what, const char* which) {
    return [=](const json& f) {
      const auto& value = f.at("quality").at(what).at(which);
      return std::string_view(what) == "psnr" ? decibels(value) : figure(value, 5);
    };
  };
  const auto last = [](const char* key) {
    return [=](const json& f) {
      const auto& steps = f.at("latents");
      return steps.is_null() ? std::string("-") : figure(steps.back().at(key), 6);
    };
  };
  std::vector<std::pair<std::string, Reader>> rows{
      {"PSNR, mean over frames", frames("psnr", "mean")},
      {"PSNR, worst frame", frames("psnr", "worst")},
      {"SSIM, mean over frames", frames("ssim", "mean")},
      {"SSIM, worst frame", frames("ssim", "worst")},
      {"frames that are equal",
       [](const json& f) {
         return fmt::format("{} of {}", f.at("quality").at("identical_frames").get<int>(),
                            f.at("quality").at("frames").get<int>());
       }},
      {"latents after the last step: cosine", last("cosine")},
      {"latents after the last step: relative L1", last("relative_l1")},
      {"latents after the last step: RMSE", last("rmse")}};
  if (report.at("locked") == true)
    rows.push_back({"one step on a's latents: relative L1, worst step",
                    [](const json& f) { return figure(largest(f.at("locked_latents"), "relative_l1")); }});
  if (report.at("floor").at("figures").at("attention").is_null()) return rows;
  rows.push_back({"attention: relative L1, mean over steps and layers",
                  [](const json& f) { return figure(mean_of(f.at("attention"), "relative_l1")); }});
  rows.push_back({"attention: relative L1, worst step and layer",
                  [](const json& f) { return figure(largest(f.at("attention"), "relative_l1")); }});
  return rows;
}

std::string quality_table(const json& report) {
  const auto& floor = report.at("floor");
  std::vector<std::string> head{"against a", "floor: a again"};
  for (const auto& run : others(report)) head.push_back(name_of(run));
  HtmlTable table(head);
  for (const auto& [name, read] : quality_rows(report)) {
    std::vector<std::string> cells{name, read(floor.at("figures"))};
    for (const auto& run : others(report)) cells.push_back(read(run.at("figures")));
    table.row(cells);
  }
  return table.html();
}

// What is of each run alone.
std::string runs_table(const json& report) {
  const auto& runs = report.at("runs");
  std::vector<std::string> head{"of each", "floor: a's other run"};
  for (const auto& run : runs) head.push_back(name_of(run));
  HtmlTable table(head);
  const auto row = [&](const std::string& name, const Reader& read) {
    std::vector<std::string> cells{name, read(report.at("floor"))};
    for (const auto& run : runs) cells.push_back(read(run));
    table.row(cells);
  };
  row("temporal consistency (flicker score)",
      [](const json& r) { return figure(r.at("temporal").at("flicker_score"), 6); });
  row("mean change between frames, of 255",
      [](const json& r) { return figure(r.at("temporal").at("mean_change"), 5); });
  row("seconds a step (median)", [](const json& r) { return figure(r.at("seconds").at("median_step"), 4); });
  row("seconds of all steps", [](const json& r) { return figure(r.at("seconds").at("denoise"), 4); });
  row("speed", [](const json& r) {
    if (r.at("emulated") == true) return std::string(kEmulated);
    if (!r.contains("time_ratio") || r.at("time_ratio").is_null()) return std::string("-");
    return fmt::format("{:.3f} of a's time", r.at("time_ratio").get<double>());
  });
  row("served by", [](const json& r) {
    std::string all;
    for (const auto& name : r.at("served")) all += (all.empty() ? "" : ", ") + name.get<std::string>();
    return all;
  });
  return table.html();
}

std::vector<std::pair<double, double>> points(const json& list,
                                              const std::function<json(const json&)>& value) {
  std::vector<std::pair<double, double>> all;
  for (const auto& entry : list) {
    const json v = value(entry);
    if (!v.is_null()) all.emplace_back(double(&entry - &list.front() + 1), v.get<double>());
  }
  return all;
}

std::string time_chart(const json& report) {
  const auto seconds = [](const json& r) {
    return points(r.at("seconds").at("steps"), [](const json& s) { return s; });
  };
  const auto& runs = report.at("runs");
  Plot plot{"Seconds of each step", "plain runs; dashed: a's first run", "step", "seconds", {}, true};
  Panel panel{"", {{name_of(runs[0]), seconds(runs[0]), false, ""}}};
  panel.series.push_back(
      {"a, first run", points(report.at("floor").at("seconds").at("steps"), [](const json& s) { return s; }),
       true, name_of(runs[0])});
  bool emulated = runs[0].at("emulated") == true;
  for (const auto& run : others(report)) {
    panel.series.push_back({name_of(run), seconds(run), false, ""});
    emulated = emulated || run.at("emulated") == true;
  }
  if (emulated) plot.subtitle += fmt::format(" ({})", kEmulated);
  plot.panels.push_back(std::move(panel));
  return to_svg(plot);
}

std::string latents_chart(const json& report) {
  const auto errors = [](const json& list) {
    return points(list, [](const json& e) { return e.at("relative_l1"); });
  };
  const bool locked = report.at("locked") == true;
  Plot plot{"Latents after each step, against a",
            locked ? "relative L1; dashed: one step on a's latents" : "relative L1",
            "step",
            "relative L1",
            {},
            true};
  Panel panel;
  const auto& floor = report.at("floor").at("figures").at("latents");
  if (!floor.is_null()) panel.series.push_back({"floor: a again", errors(floor), false, ""});
  for (const auto& run : others(report)) {
    const auto& latents = run.at("figures").at("latents");
    if (!latents.is_null()) panel.series.push_back({name_of(run), errors(latents), false, ""});
    if (locked)
      panel.series.push_back({run.at("label").get<std::string>() + ", locked",
                              errors(run.at("figures").at("locked_latents")), true, name_of(run)});
  }
  if (panel.series.empty()) return "";
  plot.panels.push_back(std::move(panel));
  return to_svg(plot);
}

HeatMap map_of(const std::string& title, const json& attention) {
  HeatMap map;
  map.title = title, map.value_name = "relative L1 of attention's output; white: 0";
  for (const auto& e : attention)
    if (!e.at("relative_l1").is_null())
      map.cells.push_back(
          {e.at("step").get<int>(), e.at("layer").get<int>(), e.at("relative_l1").get<double>()});
  return map;
}

std::string heat_maps(const json& report) {
  const auto& floor = report.at("floor").at("figures").at("attention");
  if (floor.is_null()) return "<p class=\"note\">Not measured.</p>\n";
  std::vector<HeatMap> maps;
  for (const auto& run : others(report))
    maps.push_back(map_of(name_of(run) + " against a", run.at("figures").at("attention")));
  maps.push_back(map_of("floor: a against itself", floor));
  double low = 0, high = 0;
  for (const auto& map : maps)
    for (const auto& cell : map.cells) {
      if (cell.value > 0) low = low > 0 ? std::min(low, cell.value) : cell.value;
      high = std::max(high, cell.value);
    }
  std::string out;
  for (auto& map : maps) {
    map.low = low, map.high = high;
    out += to_svg(map);
  }
  return out;
}

std::string folded(const std::string& title, const std::string& body) {
  return fmt::format("<details><summary>{}</summary>\n{}</details>\n", escaped(title), body);
}

std::string steps_table(const json& report) {
  std::vector<std::string> head{"step"};
  std::vector<json> columns;  // those that somebody looked at
  const auto add = [&](const std::string& title, const json& latents) {
    if (latents.is_null()) return;
    head.push_back(title);
    columns.push_back(latents);
  };
  add("floor: cosine / relative L1 / RMSE", report.at("floor").at("figures").at("latents"));
  for (const auto& run : others(report)) {
    add(name_of(run), run.at("figures").at("latents"));
    if (report.at("locked") == true)
      add(run.at("label").get<std::string>() + ", locked", run.at("figures").at("locked_latents"));
  }
  if (columns.empty()) return "<p class=\"note\">Nobody looked at them.</p>\n";
  HtmlTable table(head);
  for (size_t i = 0; i < columns.front().size(); ++i) {
    std::vector<std::string> cells{std::to_string(i + 1)};
    for (const auto& latents : columns) {
      const auto& e = latents.at(i);
      cells.push_back(fmt::format("{} / {} / {}", figure(e.at("cosine"), 7), figure(e.at("relative_l1")),
                                  figure(e.at("rmse"))));
    }
    table.row(cells);
  }
  return table.html();
}

std::string frames_table(const json& report) {
  std::vector<std::string> head{"frame", "floor: PSNR / SSIM"};
  std::vector<json> columns{report.at("floor").at("figures").at("quality")};
  for (const auto& run : others(report)) {
    head.push_back(name_of(run));
    columns.push_back(run.at("figures").at("quality"));
  }
  HtmlTable table(head);
  for (size_t t = 0; t < columns[0].at("frames").get<size_t>(); ++t) {
    std::vector<std::string> cells{std::to_string(t + 1)};
    for (const auto& quality : columns)
      cells.push_back(fmt::format("{} / {}", decibels(quality.at("psnr").at("per_frame").at(t)),
                                  figure(quality.at("ssim").at("per_frame").at(t), 5)));
    table.row(cells);
  }
  return table.html();
}

}  // namespace

std::string html_of(const json& report, const std::vector<Embedded>& files) {
  const auto& request = report.at("request");
  const auto prompt = request.at("prompt").get<std::string>();
  std::string specs, how;
  for (const auto& run : report.at("runs")) specs += (specs.empty() ? "" : " | ") + name_of(run);
  for (const auto& line : report.at("how"))
    how += fmt::format("<li>{}</li>\n", escaped(line.get<std::string>()));
  std::string out = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta "
      "charset=\"utf-8\"><title>{0}</title><style>{1}</style></head><body>\n"
      "<h1>{0}</h1>\n<p class=\"note\">{2}</p>\n<p>“{3}”</p>\n",
      escaped(specs), kPageStyle,
      escaped(fmt::format("{}, {} steps, seed {}, {} on {}", request.at("model").get<std::string>(),
                          request.at("steps").dump(), request.at("seed").dump(),
                          request.at("dtype").get<std::string>(), report.at("device").get<std::string>())),
      escaped(prompt));
  out += fmt::format("<p>a twice, the floor of every figure: <span class=\"mark\">{}</span></p>\n",
                     escaped(floor_text(report.at("floor"))));
  out += videos(report, files);
  out += "<h2>Quality</h2>\n" + quality_table(report) + runs_table(report);
  out += folded("Each step's latents", steps_table(report)) + folded("Each frame", frames_table(report));
  out +=
      "<h2>Step by step</h2>\n<div class=\"wide\">" + time_chart(report) + latents_chart(report) + "</div>\n";
  out += "<h2>Attention, layer by layer</h2>\n<div class=\"wide\">" + heat_maps(report) + "</div>\n";
  out += "<h2>How this was measured</h2>\n<ul>\n" + how + "</ul>\n";
  out += folded("The request", "<pre>" + escaped(json_text(request, 2)) + "</pre>\n");
  return out + "</body></html>\n";
}

}  // namespace sagelab
