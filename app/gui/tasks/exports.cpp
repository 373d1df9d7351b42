// SPDX-License-Identifier: Apache-2.0
#include "app/gui/tasks/exports.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>

#include "app/compare/metrics.h"
#include "app/compare/passes.h"
#include "app/compare/pictures.h"
#include "app/compare/report.h"
#include "app/failure.h"
#include "app/media/file.h"
#include "app/media/output.h"
#include "app/media/png.h"
#include "app/report/report.h"

namespace sagelab::gui {
namespace {

namespace fs = std::filesystem;

// The name with the ending that its kind has, where it has none.
std::string with_ending(const std::string& path, const char* ending) {
  return fs::path(path).has_extension() ? path : path + ending;
}

std::string write(const std::string& path, const Frames& frames) {
  const media::Output output(path);
  output.check_frames(frames.picture->frames);
  output.write(frames, metadata_of(frames));
  return output.path().string();
}

Frames one_frame(const Frames& frames, int index) {
  const auto& all = *frames.picture;
  auto picture = std::make_shared<Picture>();
  picture->frames = 1, picture->height = all.height, picture->width = all.width;
  const auto pixels = all.frame(std::clamp(index, 0, all.frames - 1));
  picture->pixels.assign(pixels.begin(), pixels.end());
  Frames one = frames;
  one.picture = std::move(picture);
  return one;
}

std::vector<VideoPanel> panels_of(const Export& order) {
  const auto& reference = *order.results.front().frames.picture;
  std::vector<VideoPanel> panels;
  for (size_t i = 0; i < order.results.size(); ++i) {
    const auto& result = order.results[i];
    const auto step =
        std::isnan(result.median_step) ? "" : fmt::format("{:.3g} s a step", result.median_step);
    panels.push_back(
        {label_of(i) + "  " + result.title, step, result.emulated ? kEmulated : "", result.frames.picture});
  }
  for (size_t i = 1; i < order.results.size(); ++i) {
    const auto& picture = *order.results[i].frames.picture;
    const auto quality = quality_of(picture, reference);
    double sum = 0;
    int finite = 0;
    for (const double value : quality.psnr)
      if (std::isfinite(value)) sum += value, ++finite;
    const int gain = gain_for(picture, reference);
    panels.push_back({fmt::format("abs({} - a), gain {}", label_of(i), gain),
                      finite ? fmt::format("PSNR {:.2f} dB", sum / finite) : "equal", "",
                      std::make_shared<const Picture>(difference(picture, reference, gain))});
  }
  return panels;
}

Frames side_by_side_of(const Export& order) {
  Frames frames = order.results.front().frames;
  const int columns = order.results.size() > 2 ? int(order.results.size()) : 3;
  frames.picture = std::make_shared<const Picture>(side_by_side(panels_of(order), columns, frames.fps));
  return frames;
}

// Its latents are empty where nobody compared them with a's.
Pass pass_of(const std::string& label, const ui::Result& result, const Export& order) {
  Pass pass{label, result.frames.request.attention, result.frames, {}};
  const auto errors = order.latents.find(result.id);
  if (errors != order.latents.end()) pass.latents = errors->second;
  return pass;
}

// A file of the page's own, in a folder that goes with this.
class Draft {
 public:
  explicit Draft(const fs::path& beside) {
    for (int attempt = 0; folder_.empty(); ++attempt) {
      const auto name = temporary_name(beside, attempt);
      std::error_code error;
      if (fs::create_directory(name, error)) folder_ = name;
      if (error) cannot_write(name, error.value());
    }
  }
  ~Draft() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  Draft(const Draft&) = delete;
  Draft& operator=(const Draft&) = delete;

  Embedded embed(const std::string& stem, const Frames& frames) const {
    const bool image = frames.picture->frames == 1;
    const auto name = stem + (image ? ".png" : ".mp4");
    write((folder_ / name).string(), frames);
    std::ifstream in(folder_ / name, std::ios::binary);
    std::stringstream bytes;
    bytes << in.rdbuf();
    return {name, image ? "image/png" : "video/mp4", bytes.str()};
  }

 private:
  fs::path folder_;
};

std::string write_report(const Export& order) {
  const auto path = with_ending(order.path, ".html");
  if (!order.again) throw Error("the first result was not made again", "press \"Make A-vs-A floor\" first");
  Comparison comparison;
  comparison.order.request = order.results.front().frames.request;
  comparison.order.attention_errors = false;
  for (size_t i = 0; i < order.results.size(); ++i) {
    comparison.runs.push_back(pass_of(label_of(i), order.results[i], order));
    comparison.order.specs.push_back(comparison.runs.back().spec);
  }
  comparison.again = pass_of("a", *order.again, order);
  auto report = compare_report(comparison);
  const Draft draft(path);
  std::vector<Embedded> files;
  for (const auto& run : comparison.runs) files.push_back(draft.embed(run.label, run.frames));
  auto beside = draft.embed("side_by_side", side_by_side_of(order));
  files.push_back(beside);
  const auto sheet = contact_sheet(panels_of(order), comparison.order.request.prompt);
  files.push_back(
      {"contact_sheet.png", "image/png", media::encode_png(sheet.frame(0), sheet.width, sheet.height, {})});
  report["output"] = path;
  for (const auto& file : files) report["files"].push_back(file.name);
  media::write_whole(path, html_of(report, files));
  return path;
}

}  // namespace

std::string write_export(const Export& order) {
  using Kind = ui::action::Export::Kind;
  if (order.results.empty()) throw Error("there is nothing to export", "generate something first");
  const auto& first = order.results.front().frames;
  switch (order.kind) {
    case Kind::Mp4:
      return write(with_ending(order.path, ".mp4"), first);
    case Kind::Png:
      return write(with_ending(order.path, ".png"), one_frame(first, order.frame));
    case Kind::SideBySide:
      return write(with_ending(order.path, first.picture->frames > 1 ? ".mp4" : ".png"),
                   side_by_side_of(order));
    case Kind::Report:
      return write_report(order);
  }
  throw Error("this export is not known");
}

}  // namespace sagelab::gui
