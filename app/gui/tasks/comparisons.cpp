// SPDX-License-Identifier: Apache-2.0
#include "app/gui/tasks/comparisons.h"

#include <algorithm>
#include <cmath>

namespace sagelab::gui {

using nlohmann::json;

json to_json(const LatentErrors& latents) {
  json steps = json::array();
  for (const auto& e : latents.errors.steps) steps.push_back({e.cosine, e.relative_l1, e.rmse, e.max_abs});
  return {{"against", latents.a}, {"identical", latents.errors.identical}, {"steps", steps}};
}

LatentErrors latent_errors_from_json(const json& json) {
  LatentErrors latents{json.at("against"), {{}, json.at("identical")}};
  // What is not finite is null there.
  const auto number = [](const auto& value) {
    return value.is_number() ? value.template get<double>() : NAN;
  };
  for (const auto& e : json.at("steps"))
    latents.errors.steps.push_back({number(e.at(0)), number(e.at(1)), number(e.at(2)), number(e.at(3))});
  return latents;
}

void Comparisons::begin(ui::Id a, const std::vector<ui::Id>& others) {
  groups_[a] = std::make_shared<Group>();
  groups_[a]->left = others;
  for (const auto id : others) others_[id].a = a;
}

StepHooks Comparisons::hooks(ui::Id id, const std::function<bool(ui::Id)>& is_done) {
  if (const auto group = groups_.find(id); group != groups_.end()) return group->second->latents.keep();
  const auto other = others_.find(id);
  if (other == others_.end() || !is_done(other->second.a)) return {};
  const auto group = groups_.find(other->second.a);
  if (group == groups_.end()) return {};
  *other->second.errors = {};
  auto hooks = group->second->latents.compare(*other->second.errors, false);
  // The run holds both, however soon the window forgets them.
  hooks.after = [after = hooks.after, kept = group->second, errors = other->second.errors](
                    int i, const at::Tensor& latents) { after(i, latents); };
  return hooks;
}

void Comparisons::ended(ui::Id id) {
  const auto other = others_.find(id);
  if (other == others_.end()) return;
  const auto group = groups_.find(other->second.a);
  if (group == groups_.end()) return;
  std::erase(group->second->left, id);
  if (group->second->left.empty()) groups_.erase(group);
}

std::optional<LatentErrors> Comparisons::errors(ui::Id id) const {
  const auto other = others_.find(id);
  if (other == others_.end() || other->second.errors->steps.empty()) return std::nullopt;
  return LatentErrors{other->second.a, *other->second.errors};
}

void Comparisons::restore(ui::Id id, const LatentErrors& latents) {
  others_[id] = {latents.a, std::make_shared<StepErrors>(latents.errors)};
}

}  // namespace sagelab::gui
