// SPDX-License-Identifier: Apache-2.0
// The parts of a model folder that hold weights: which class reads each, and what that takes.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pipelines/common/weights/weight_files.h"
#include "pipelines/core/config.h"
#include "pipelines/core/weights.h"
#include "pipelines/registry.h"

namespace sagelab {

// What save_pretrained of either library calls the files of weights.
inline constexpr const char* kDiffusersStem = "diffusion_pytorch_model";
inline constexpr const char* kTransformersStem = "model";

struct Component {
  const char* name;  // its subfolder
  const char* stem;
  // Makes its model of a config and drops it: tells what is read of it.
  void (*construct)(const Weights& w, Config& config);
  std::span<const std::string_view> unread = {};  // what its files may hold besides
  // What tensors may be called in a single file in place of the folder; null: as in the folder.
  OriginalNames (*original)(Config& config) = nullptr;
  // More that its files may hold besides, where that depends on the config; or null.
  std::vector<std::string> (*unread_of)(Config& config) = nullptr;
};

// For the table above: a class that is made of weights and its config.
template <class Model, class ModelConfig>
void construct(const Weights& w, Config& config) {
  Model(w, ModelConfig(config));
}

// Names that are the same whatever the config.
template <const OriginalNames& (*kNames)()>
OriginalNames names_always(Config&) {
  return kNames();
}

// T5's embedding has two names; files carry either or both.
inline constexpr std::string_view kT5Unread[] = {"encoder.embed_tokens."};

// Throws sagelab::Error where it is not in the table.
const Component& component_in(std::span<const Component> table, const std::string& name);

using ShapesByName = std::vector<std::pair<std::string, std::vector<int64_t>>>;

// (key, shape) of every tensor that is read of a component with this config. Throws likewise.
ShapesByName requested_names(std::span<const Component> table, const std::string& component, Config config);

// A family's components, and the names that they are read under.
void set_components(Family& family, std::span<const Component> (*table)());

// Those of one folder.
class Components {
 public:
  // Throws sagelab::Error where the request names a file for a component that is not in the table.
  Components(const Request& request, std::vector<Component> table);

  std::shared_ptr<WeightSource> open(const std::string& name, LoadProgress progress = {}) const;
  // Reads a component: make(weights) is its model, on the target when this returns.
  template <class Make>
  auto load(const std::string& name, const Target& target, LoadProgress progress, const Make& make) const {
    const Weights w(open(name, std::move(progress)), target);
    auto model = make(w);
    require_all_read(row(name), w);
    return model;
  }
  // Throws sagelab::Error for any tensor that is missing, of another shape or nobody's: before the first is
  // loaded.
  void check() const;
  // Bytes that the tensors we read of a component take on a target.
  int64_t bytes(const std::string& name, const Target& target) const;
  // What a product with one of its 8-bit weights takes more than with others: the weight widened or, where
  // the device multiplies e4m3, the rows rounded to it, of so many bytes. 0 where it has none.
  int64_t narrow_bytes(const std::string& name, const Target& target, int64_t rounded) const;
  std::vector<Plan::Component> listed(const Target& target) const;

 private:
  const Component& row(const std::string& name) const;
  Config config_of(const Component& component) const;
  OriginalNames names_of(const Component& component) const;
  void require_all_read(const Component& component, const Weights& w) const;
  Weights constructed(const Component& component, const Target& target) const;

  std::filesystem::path root_;
  WeightFiles files_;
  std::vector<Component> table_;
};

}  // namespace sagelab
