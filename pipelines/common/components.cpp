// SPDX-License-Identifier: Apache-2.0
#include "pipelines/common/components.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "attention/error.h"
#include "pipelines/common/outlook.h"

namespace sagelab {
namespace {

constexpr const char* kT5Embedding = "shared.weight";
constexpr const char* kT5TiedEmbedding = "encoder.embed_tokens.weight";

}  // namespace

const Component& component_in(std::span<const Component> table, const std::string& name) {
  std::vector<const char*> known;
  for (const Component& component : table) {
    if (name == component.name) return component;
    known.push_back(component.name);
  }
  throw Error(fmt::format("this model has no component \"{}\"", name),
              fmt::format("known: {}", fmt::join(known, ", ")));
}

ShapesByName requested_names(std::span<const Component> table, const std::string& component, Config config) {
  const Weights w(shape_source([](std::string_view key) { return key != kT5TiedEmbedding; }),
                  {at::kMeta, at::kFloat});
  component_in(table, component).construct(w, config);
  return w.requested();
}

void set_components(Family& family, std::span<const Component> (*table)()) {
  for (const Component& component : table()) family.components.emplace_back(component.name);
  family.names = [table](const std::string& component, const nlohmann::json& json) {
    return requested_names(table(), component, Config(json, component));
  };
}

Components::Components(const Request& request, std::vector<Component> table)
    : root_(request.model), files_(request), table_(std::move(table)) {
  std::vector<std::string> names;
  for (const Component& component : table_) names.emplace_back(component.name);
  files_.require_among(names);
}

const Component& Components::row(const std::string& name) const {
  return component_in(table_, name);
}

Config Components::config_of(const Component& component) const {
  return Config(root_ / component.name / "config.json");
}

OriginalNames Components::names_of(const Component& component) const {
  if (!component.original || files_.file_for(component.name).empty()) return {};
  Config config = config_of(component);
  return component.original(config);
}

void Components::require_all_read(const Component& component, const Weights& w) const {
  std::vector<std::string_view> unread(component.unread.begin(), component.unread.end());
  std::vector<std::string> more;
  if (component.unread_of) {
    Config config = config_of(component);
    more = component.unread_of(config);
  }
  unread.insert(unread.end(), more.begin(), more.end());
  w.require_all_read(unread);
}

std::shared_ptr<WeightSource> Components::open(const std::string& name, LoadProgress progress) const {
  const Component& component = row(name);
  return files_.open(name, component.stem, names_of(component), std::move(progress));
}

Weights Components::constructed(const Component& component, const Target& target) const {
  const Weights w(open(component.name), {at::kMeta, target.dtype, target.streamed});
  Config config = config_of(component);
  component.construct(w, config);
  return w;
}

void Components::check() const {
  for (const Component& component : table_) require_all_read(component, constructed(component, Target{}));
}

int64_t Components::bytes(const std::string& name, const Target& target) const {
  return constructed(row(name), target).bytes();
}

int64_t Components::narrow_bytes(const std::string& name, const Target& target, int64_t rounded) const {
  const int64_t largest = constructed(row(name), target).largest_e4m3();
  if (largest == 0) return 0;
  return multiplies_e4m3(target.device, target.dtype) ? rounded : widening_bytes(largest, target.dtype);
}

std::vector<Plan::Component> Components::listed(const Target& target) const {
  std::vector<Plan::Component> all;
  for (const Component& component : table_) {
    const auto files = files_.list(component.name, component.stem, names_of(component));
    const bool tied =
        std::any_of(files.begin(), files.end(), [](const TensorInfo& t) { return t.key == kT5Embedding; });
    all.push_back(component_of(component.name, files, bytes(component.name, target),
                               tied ? kT5TiedEmbedding : std::string_view()));
  }
  return all;
}

}  // namespace sagelab
