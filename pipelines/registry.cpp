// SPDX-License-Identifier: Apache-2.0
#include "pipelines/registry.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>

#include "attention/error.h"
#include "pipelines/cogvideox/pipeline.h"
#include "pipelines/core/config.h"

namespace sagelab {
namespace {

namespace fs = std::filesystem;

std::string known_classes() {
  std::vector<std::string> names;
  for (const Family& family : families()) names.push_back(family.class_name);
  return fmt::format("known: {}", fmt::join(names, ", "));
}

[[noreturn]] void not_a_model(const fs::path& model) {
  constexpr const char* kWanted =
      "give a folder saved by diffusers' save_pretrained, with model_index.json in it";
  std::error_code ignored;
  if (!fs::exists(model, ignored))
    throw Error(fmt::format("{}: no such model folder", model.string()), kWanted);
  if (!fs::is_directory(model, ignored))
    throw Error(fmt::format("{} is a single file, not a model folder", model.string()), kWanted);
  if (fs::exists(model / "config.json", ignored))
    throw Error(fmt::format("{} is one component of a model ({}), not a whole one", model.string(),
                            Config(model / "config.json").class_name()),
                fmt::format("give the folder around it: {}",
                            fs::absolute(model).lexically_normal().parent_path().string()));
  throw Error(fmt::format("{}: no model_index.json in this folder", model.string()), kWanted);
}

}  // namespace

std::span<const Family> families() {
  static const std::array kFamilies = {cogvideox::family()};
  return kFamilies;
}

const Family& family_of(const fs::path& model) {
  const fs::path index = model / "model_index.json";
  std::error_code ignored;
  if (!fs::exists(index, ignored)) not_a_model(model);
  const nlohmann::json json = read_json(index);
  const auto name = json.is_object() ? json.find("_class_name") : json.end();
  if (name == json.end() || !name->is_string())
    throw Error(fmt::format("{}: no _class_name", index.string()), known_classes());
  for (const Family& family : families())
    if (family.class_name == name->get<std::string>()) return family;
  throw Error(
      fmt::format("{}: _class_name \"{}\" is not supported", index.string(), name->get<std::string>()),
      known_classes());
}

}  // namespace sagelab
