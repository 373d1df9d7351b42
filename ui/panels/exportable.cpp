// SPDX-License-Identifier: Apache-2.0
#include "ui/panels/exportable.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace sagelab::ui {
namespace {

// "A", as the canvas calls it; else its title.
std::string name_of(const State& state, const Result& result) {
  const auto at = std::find(state.compared.begin(), state.compared.end(), result.id);
  return at == state.compared.end() ? result.title
                                    : std::string(1, char('A' + (at - state.compared.begin())));
}

bool same_size(const Picture& a, const Picture& b) {
  return a.width == b.width && a.height == b.height && a.frames == b.frames;
}

}  // namespace

std::vector<Id> finished_in_canvas(const State& state) {
  std::vector<Id> ids;
  for (const Id id : state.compared)
    if (state.result(id)) ids.push_back(id);
  return ids;
}

std::string different_settings(const Request& a, const Request& b) {
  const std::pair<const char*, bool> same[] = {
      {"model", a.model == b.model && a.variant == b.variant},
      {"prompt", a.prompt == b.prompt && a.negative_prompt == b.negative_prompt},
      {"size", a.width == b.width && a.height == b.height},
      {"frames", a.num_frames == b.num_frames},
      {"steps", a.steps == b.steps},
      {"guidance", a.guidance_scale == b.guidance_scale},
      {"seed", a.seed == b.seed},
      {"dtype", a.dtype == b.dtype},
      {"device", a.device == b.device},
      {"model options", a.options == b.options}};
  std::string all;
  for (const auto& [name, equal] : same)
    if (!equal) all += (all.empty() ? "" : ", ") + std::string(name);
  return all;
}

std::string export_problem(const State& state, action::Export::Kind kind, const std::vector<Id>& results) {
  using Kind = action::Export::Kind;
  std::vector<const Result*> all;
  for (const Id id : results)
    if (const auto* result = state.result(id)) all.push_back(result);
  if (all.empty() || all.size() != results.size())
    return "There is nothing to export: generate something first";
  if (kind == Kind::Mp4 || kind == Kind::Png) return "";
  if (all.size() < 2) return "Put two finished results into the canvas, as A and B";
  const auto& first = *all.front();
  for (const auto* other : all) {
    const auto pair = fmt::format("{} and {} differ in ", name_of(state, first), name_of(state, *other));
    if (!same_size(*first.frames.picture, *other->frames.picture))
      return pair + "their size or number of frames";
    const auto different = different_settings(first.frames.request, other->frames.request);
    if (kind == Kind::Report && !different.empty())
      return pair + different + ": a report compares runs of the same settings";
  }
  const bool again = std::any_of(state.results.begin(), state.results.end(),
                                 [&](const Result& result) { return result.repeats == first.id; });
  if (kind == Kind::Report && !again)
    return fmt::format(
        "{} was not made twice, and a report judges all figures by that: press \"Make A-vs-A "
        "floor\" in Metrics first",
        name_of(state, first));
  return "";
}

}  // namespace sagelab::ui
