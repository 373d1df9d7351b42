// SPDX-License-Identifier: Apache-2.0
#include "app/terminal/switch_keys.h"

#include <fmt/format.h>

#include <algorithm>

#include "attention/error.h"
#include "attention/registry.h"

namespace sagelab {

std::vector<std::string> switch_choices(const Request& resolved, const Plan& plan) {
  constexpr size_t kMost = 9;
  std::vector<attention::BackendPtr> wanted{attention::make_backend(resolved.attention)};
  for (const auto& planned : switches_of(resolved)) wanted.push_back(planned.backend);
  for (const auto* spec : {"sdpa", "sage2", "sage2(qk=int4)", "sdpa(flash)", "sdpa(cudnn)"})
    wanted.push_back(attention::make_backend(spec));
  std::vector<std::string> choices;
  for (const auto& backend : wanted) {
    const auto can = [&](const attention::Problem& p) { return backend->unsupported(p).empty(); };
    const auto name = backend->name();
    const bool there = std::find(choices.begin(), choices.end(), name) != choices.end();
    if (!there && choices.size() < kMost && std::all_of(plan.problems.begin(), plan.problems.end(), can))
      choices.push_back(name);
  }
  return choices;
}

std::string legend_of(const std::vector<std::string>& choices, const std::string& running) {
  std::string text = "keys:";
  for (size_t i = 0; i < choices.size(); ++i)
    text += fmt::format("{} {} {}{}", i == 0 ? "" : " ", i + 1, choices[i],
                        choices[i] == running ? " (runs)" : "");
  return text;
}

SwitchKeys::SwitchKeys(std::vector<std::string> choices, const Request& resolved, Say say)
    : choices_(std::move(choices)),
      running_(attention::make_backend(resolved.attention)->name()),
      per_call_(resolved.attention_switch == "call"),
      say_(std::move(say)) {
  keys_.emplace();
  say_(legend_of(choices_, running_));
}

void SwitchKeys::serve(Session& session) {
  while (const auto key = keys_ ? keys_->take() : std::nullopt) {
    const auto index = size_t(*key - '1');
    if (*key < '1' || index >= choices_.size()) continue;
    try {
      if (session.set_attention(choices_[index]))
        say_(fmt::format("{} from the next {} on", choices_[index], per_call_ ? "call" : "step"));
    } catch (const Error& e) {
      say_(std::string("sagelab: ") + e.what());
    }
  }
}

void SwitchKeys::show(const Progress& progress) {
  if (const auto* phase = std::get_if<Phase>(&progress.what); phase && phase->name == "decode") keys_.reset();
  const auto* step = std::get_if<Step>(&progress.what);
  if (!step) return;
  const auto arrow = step->backend.rfind(" -> ");
  const auto now = arrow == std::string::npos ? step->backend : step->backend.substr(arrow + 4);
  if (now == running_) return;
  running_ = now;
  if (keys_) say_(legend_of(choices_, running_));
}

}  // namespace sagelab
