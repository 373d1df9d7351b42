// SPDX-License-Identifier: Apache-2.0
#include "app/gui/tasks/comparisons.h"

#include <algorithm>

namespace sagelab::gui {

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

const StepErrors* Comparisons::errors(ui::Id id, ui::Id a) const {
  const auto other = others_.find(id);
  const bool known = other != others_.end() && other->second.a == a && !other->second.errors->steps.empty();
  return known ? other->second.errors.get() : nullptr;
}

}  // namespace sagelab::gui
