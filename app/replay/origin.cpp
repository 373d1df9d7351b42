// SPDX-License-Identifier: Apache-2.0
#include "app/replay/origin.h"

#include <fmt/format.h>

#include "app/compare/report.h"
#include "app/media/stored.h"
#include "attention/error.h"

namespace sagelab {
namespace {

using nlohmann::json;

constexpr const char* kOurs = "give an MP4, a PNG, a folder of frames or a report that this program wrote";

bool holds_frames(const json& made) {
  return made.is_object() && made.contains("frames") && made.at("frames").is_object() &&
         made.at("frames").contains("digest");
}

// The texts of the switches, for the request; refused where they are none.
std::vector<std::string> switches_in(const json& made) {
  std::vector<std::string> all;
  if (const auto it = made.find("switches"); it != made.end()) it->get_to(all);
  return all;
}

Origin origin_of(const std::string& label, const json& request, const json& made) {
  if (!holds_frames(made) || !made.at("frames").at("digest").is_string())
    throw Error("holds no digest of its frames", "outputs of this program's present version hold one");
  Origin origin{label, request_of_output(request), made};
  origin.request.attention_at = switches_in(made);
  origin.request.output.clear();
  origin.request.latents.clear();
  origin.request.preview = 0;
  return origin;
}

std::vector<Origin> origins_in(const json& all) {
  if (!all.is_object()) throw Error("is no JSON object", kOurs);
  const bool comparison = all.contains("kind") && all.at("kind") == kReportKind;
  if (comparison && !all.contains("runs"))
    throw Error("is drawn from several runs",
                "replay those, which lie beside it: a.mp4, b.mp4 or report.json");
  std::vector<Origin> origins;
  if (comparison) {
    for (const auto& run : all.at("runs")) {
      const auto& report = run.at("report");
      origins.push_back(origin_of(run.at("label"), report.at("request"), report.value("made", json())));
    }
  } else if (all.contains("request")) {
    origins.push_back(origin_of({}, all.at("request"), all.value("made", json())));
  } else if (all.contains("model") && all.contains("seed")) {
    origins.push_back(origin_of({}, all, all.value("made", json())));
  }
  if (origins.empty()) throw Error("does not say how frames were made", kOurs);
  return origins;
}

}  // namespace

Request request_of_output(json all) {
  if (all.is_object()) all.erase("made");
  return request_from_json(all);
}

std::vector<Origin> origins_of(const std::filesystem::path& file) {
  const auto text = media::stored_text(file);
  const auto named = [&](const std::string& what) { return fmt::format("{}: {}", file.string(), what); };
  const auto all = json::parse(text, nullptr, false);
  if (all.is_discarded()) throw Error(named("what it says of its making is no JSON"), kOurs);
  try {
    return origins_in(all);
  } catch (const Error& e) {
    throw Error(named(e.what()), e.hint());
  } catch (const json::exception&) {
    throw Error(named("what it says of its making is damaged"), kOurs);
  }
}

}  // namespace sagelab
