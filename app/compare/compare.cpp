// SPDX-License-Identifier: Apache-2.0
#include "app/compare/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "app/compare/passes.h"
#include "app/compare/pictures.h"
#include "app/compare/report.h"
#include "app/failure.h"
#include "app/interrupt.h"
#include "app/media/file.h"
#include "app/media/output.h"
#include "app/media/png.h"
#include "app/options.h"
#include "app/report/report.h"
#include "attention/registry.h"

namespace sagelab {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char *kSideBySide = "side_by_side", *kSheet = "contact_sheet.png";
constexpr size_t kMostSpecs = 6;

std::string read_bytes(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::stringstream bytes;
  bytes << in.rdbuf();
  return bytes.str();
}

// Throws where the folder is there and holds anything but an earlier comparison.
void check_folder(const fs::path& folder) {
  std::error_code error;
  if (!fs::exists(folder, error)) return;
  if (!fs::is_directory(folder, error))
    throw Error(folder.string() + " is a file, not a folder", "choose another place");
  std::set<std::string> ours{kSideBySide, "contact_sheet", "report"};
  for (size_t i = 0; i < kMostSpecs; ++i) ours.insert(label_of(i));
  bool empty = true;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    empty = false;
    if (ours.contains(entry.path().stem().string())) continue;
    throw Error(fmt::format("the folder {} holds other files ({})", folder.string(),
                            entry.path().filename().string()),
                "choose a new or an empty folder for --output");
  }
  if (error) cannot_write(folder, error.value());
  if (empty) return;
  const auto report = json::parse(read_bytes(folder / "report.json"), nullptr, false);
  if (!report.is_object() || report.value("kind", json()) != kReportKind)
    throw Error(
        fmt::format("the folder {} holds files without the report.json of a comparison", folder.string()),
        "choose a new or an empty folder for --output");
}

std::string output_of(const Request& resolved) {
  if (resolved.output.empty())
    return free_name(fmt::format("compare-{}-{}", family_of(resolved.model).name, resolved.seed)).string();
  if (media::kind_of(resolved.output) != media::Kind::Folder)
    throw UsageError("a comparison is a folder, not one file: --output " + resolved.output,
                     "name it folder/");
  return resolved.output;
}

void check_specs_parse(const std::vector<std::string>& specs) {
  for (size_t i = 0; i < specs.size(); ++i) {
    check_flag_text(specs[i], "attention");
    try {
      attention::make_backend(specs[i]);
    } catch (const Error& e) {
      throw UsageError(fmt::format("--{}: {}", label_of(i), e.what()), e.hint());
    }
  }
}

// a, b, ..., and beside or below them how far each is from a.
struct Panels {
  std::vector<VideoPanel> all;
  int columns = 3;
};

Panels panels_of(const Comparison& comparison, const json& report) {
  const auto& reference = *comparison.runs[0].frames.picture;
  const auto& runs = report.at("runs");
  const auto second_line = [](const json& run) {
    return fmt::format("{} s a step, {} s in all", figure(run.at("seconds").at("median_step"), 3),
                       figure(run.at("seconds").at("denoise"), 3));
  };
  Panels panels;
  for (size_t i = 0; i < comparison.runs.size(); ++i) {
    const auto& pass = comparison.runs[i];
    panels.all.push_back({pass.label + "  " + pass.spec, second_line(runs[i]),
                          runs[i].at("emulated") == true ? kEmulated : "", pass.frames.picture});
  }
  const auto add = [&](const std::string& name, const Picture& picture, const json& figures) {
    const int gain = gain_for(picture, reference);
    panels.all.push_back({fmt::format("abs({} - a), gain {}", name, gain), quality_text(figures), "",
                          std::make_shared<const Picture>(difference(picture, reference, gain))});
  };
  if (comparison.runs.size() > 2) {
    panels.columns = int(comparison.runs.size());
    add("a again", *comparison.again.frames.picture, report.at("floor").at("figures"));
  }
  for (size_t i = 1; i < comparison.runs.size(); ++i)
    add(comparison.runs[i].label, *comparison.runs[i].frames.picture, runs[i].at("figures"));
  return panels;
}

// A message with the name of the folder that was asked for in place of its draft's.
std::string as_asked(std::string text, const fs::path& draft, const fs::path& target) {
  const auto asked = target.has_filename() ? target : target.parent_path();
  for (size_t at = text.find(draft.string()); at != std::string::npos; at = text.find(draft.string()))
    text.replace(at, draft.string().size(), asked.string());
  return text;
}

// Before the runs, which may take hours: could the folder be made, and hold what comes of them? Encoded, all
// that is written takes less than half of the bare videos, mostly by far.
void require_room(const fs::path& target, const CompareOrder& order) {
  const media::AtomicFolder folder(target, check_folder);
  const auto& r = order.request;
  const int64_t video = int64_t(3) * r.width.value() * r.height.value() * r.num_frames.value();
  try {
    media::probe_file(folder.temporary() / "a", video * int64_t(order.specs.size()) / 2);
  } catch (const Error& e) {
    throw Error(as_asked(e.what(), folder.temporary(), target),
                as_asked(e.hint(), folder.temporary(), target));
  }
}

class Folder {
 public:
  explicit Folder(const fs::path& target) : target_(target), folder_(target, check_folder) {}

  // Throws Cancelled after Ctrl-C.
  void add(const std::string& stem, const Frames& frames, const media::Metadata& metadata) {
    const auto& picture = *frames.picture;
    const bool image = picture.frames == 1, video = media::can_write_mp4(picture.width, picture.height);
    const auto name = stem + (image ? ".png" : video ? ".mp4" : "/");
    try {
      if (!media::Output((folder_.temporary() / name).string()).write(frames, metadata, interrupted))
        throw Cancelled();
    } catch (const Error& e) {
      throw Error(as_asked(e.what(), folder_.temporary(), target_),
                  as_asked(e.hint(), folder_.temporary(), target_));
    }
    files_.push_back(name);
    if (image || video)
      embedded_.push_back({name, image ? "image/png" : "video/mp4", read_bytes(folder_.temporary() / name)});
  }
  void add_sheet(const Picture& sheet) {
    const auto png = media::encode_png(sheet.frame(0), sheet.width, sheet.height, {});
    folder_.write(kSheet, png);
    files_.push_back(kSheet);
    embedded_.push_back({kSheet, "image/png", png});
  }
  void finish(json& report) {
    report["output"] = target_.string();
    report["files"] = files_;
    folder_.write("report.json", json_text(report, 2) + "\n");
    folder_.write("report.html", html_of(report, embedded_));
    if (interrupted()) throw Cancelled();
    folder_.commit();
  }

 private:
  fs::path target_;
  media::AtomicFolder folder_;
  std::vector<std::string> files_;
  std::vector<Embedded> embedded_;
};

void write_folder(const fs::path& target, const Comparison& comparison, json& report) {
  Folder folder(target);
  for (const auto& pass : comparison.runs) folder.add(pass.label, pass.frames, metadata_of(pass.frames));
  const auto panels = panels_of(comparison, report);
  const Request request = request_from_json(report.at("request"));
  Frames frames;
  frames.fps = comparison.runs[0].frames.fps;
  frames.picture = std::make_shared<const Picture>(side_by_side(panels.all, panels.columns, frames.fps));
  json comment{
      {"kind", kReportKind}, {"request", report.at("request")}, {"attention", comparison.order.specs}};
  folder.add(kSideBySide, frames, {json_text(comment), parameters_text(request)});
  folder.add_sheet(contact_sheet(panels.all, request.prompt));
  folder.finish(report);
}

}  // namespace

std::string folder_name(const std::string& name) {
  auto ending = fs::path(name).extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(), [](unsigned char c) { return tolower(c); });
  const bool taken = name.empty() || name.ends_with('/') || ending == ".mp4" || ending == ".png";
  return taken ? name : name + "/";
}

int compare(const CompareJob& job) {
  check_specs_parse(job.specs);
  Request request = job.request;
  request.attention = job.specs.at(0);
  request = family_of(request.model).resolve(request);
  const fs::path target = output_of(request);
  const CompareOrder order{request, job.specs, job.locked, job.attention_errors};
  Session session;
  check_specs(session, order);
  require_room(target, order);

  catch_interrupt();
  const auto comparison = run_passes(session, order);
  json report = compare_report(comparison);
  write_folder(target, comparison, report);
  const auto shown = target.has_filename() ? target.string() + "/" : target.string();
  print(job.json
            ? json_text(report, 2) + "\n"
            : summary_of(report) + fmt::format("{}report.html, {}{}, {}{}\n", shown, shown,
                                               report.at("files").at(job.specs.size()).get<std::string>(),
                                               shown, kSheet));
  return kDone;
}

}  // namespace sagelab
