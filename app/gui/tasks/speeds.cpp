// SPDX-License-Identifier: Apache-2.0
#include "app/gui/tasks/speeds.h"

#include <fmt/format.h>

#include <algorithm>

#include "ui/job.h"

namespace sagelab::gui {
namespace {

constexpr const char* kAny = "";  // attention

std::string key_of(const Speeds::Run& run, const std::string& attention) {
  return fmt::format("{}\n{}\n{}\n{}", run.model, run.device, run.dtype, attention);
}

}  // namespace

void Speeds::add(const Run& run) {
  if (!(run.flops > 0) || !(run.denoise > 0)) return;
  const Known known{run.denoise / run.flops, std::max(run.beside, 0.), run.pixels};
  known_[key_of(run, run.attention)] = known;
  if (!run.emulated && !ui::is_checked(run.attention)) known_[key_of(run, kAny)] = known;
}

Speeds::Guess Speeds::guess(const Run& run) const {
  const auto from = [&](const std::string& attention) {
    const auto at = known_.find(key_of(run, attention));
    if (at == known_.end()) return Guess{};
    const auto& known = at->second;
    const double growth = known.pixels > 0 && run.pixels > 0 ? run.pixels / known.pixels : 1;
    const double denoise = run.flops * known.per_flop;
    return Guess{denoise + known.beside * growth, denoise, attention == kAny};
  };
  if (const auto own = from(run.attention); !std::isnan(own.seconds)) return own;
  if (run.emulated || !(run.flops > 0)) return {};  // by what factor it is slower nothing tells
  if (const auto any = from(kAny); !std::isnan(any.seconds)) return any;
  const double seconds = run.flops * machine_->seconds_per_flop(run.target, run.width);
  return {seconds, seconds, true};
}

nlohmann::json Speeds::json() const {
  auto all = nlohmann::json::array();
  for (const auto& [key, known] : known_)
    all.push_back(
        {{"key", key}, {"per_flop", known.per_flop}, {"beside", known.beside}, {"pixels", known.pixels}});
  return all;
}

void Speeds::read(const nlohmann::json& json) {
  for (const auto& entry : json)
    known_[entry.at("key").get<std::string>()] = {
        entry.at("per_flop").get<double>(), entry.at("beside").get<double>(), entry.value("pixels", 0.)};
}

}  // namespace sagelab::gui
