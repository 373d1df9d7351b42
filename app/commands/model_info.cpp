// SPDX-License-Identifier: Apache-2.0
#include "app/commands/model_info.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

#include "attention/error.h"
#include "pipelines/common/weights/weight_files.h"
#include "pipelines/core/checkpoint/dtypes.h"
#include "pipelines/core/config.h"
#include "pipelines/core/memory.h"
#include "pipelines/core/weights.h"
#include "pipelines/registry.h"

namespace sagelab {
namespace {
namespace fs = std::filesystem;
using nlohmann::json;

class Inspector {
 public:
  Inspector(const Request& request, const Family& family, ModelInfo& info)
      : folder_(request.model), variant_(request.variant), files_(request), family_(family), info_(info) {}

  void component(const std::string& name, const std::string& library, const std::string& class_name) {
    ModelInfo::Component c;
    c.name = name;
    c.library = library;
    c.class_name = class_name;
    const auto place = folder_ / name;
    if (!fs::is_directory(place)) {
      missing(place.string() + ": the folder is missing");
    } else if (std::find(family_.components.begin(), family_.components.end(), name) !=
               family_.components.end()) {
      weights(c, place);
    } else if (class_name.find("Tokenizer") != std::string::npos) {
      any_of(place, {"tokenizer.json", "spiece.model", "vocab.json"});
    } else if (class_name.find("Scheduler") != std::string::npos) {
      any_of(place, {"scheduler_config.json"});
    }
    info_.components.push_back(std::move(c));
  }

  // Tensors that are not there under the names by which a family asks for them first. It may know others: the
  // loader has the last word.
  const std::vector<std::string>& doubts() const { return doubts_; }

 private:
  void doubt(std::string line) { doubts_.push_back(std::move(line)); }
  void missing(std::string line) { info_.missing.push_back(std::move(line)); }

  void any_of(const fs::path& place, std::initializer_list<const char*> names) {
    for (const auto* name : names)
      if (fs::exists(place / name)) return;
    missing(fmt::format("{}: {} is missing", place.string(), fmt::join(names, " or ")));
  }

  // In the place of its own. Whether it holds what the component asks for, the loader says.
  void single_file(ModelInfo::Component& c, const fs::path& file) {
    c.file = file.string();
    try {
      count(c, list_file(file, {}));
    } catch (const std::exception& e) {
      missing(message_of(e));
    }
  }

  void weights(ModelInfo::Component& c, const fs::path& place) {
    if (const auto file = files_.file_for(c.name); !file.empty()) return single_file(c, file);
    const auto stem = c.library == "transformers" ? "model" : "diffusion_pytorch_model";
    const auto contents = inspect_folder(place, stem, variant_);
    for (const auto& problem : contents.problems) missing(problem);
    count(c, contents.tensors);
    try {
      const auto names = family_.names(c.name, read_json(place / "config.json"));
      if (contents.problems.empty()) compare(place, names, contents.tensors);
    } catch (const std::exception& e) {
      missing(said_of(e, c.name, place / "config.json"));
    }
  }

  // The family knows a config by its component's name; a person by its file.
  static std::string said_of(const std::exception& e, const std::string& component, const fs::path& file) {
    const auto text = message_of(e);
    return text.starts_with(component + ": ") ? file.string() + text.substr(component.size()) : text;
  }

  static void count(ModelInfo::Component& c, const std::vector<TensorInfo>& tensors) {
    std::set<std::string> dtypes;
    for (const auto& tensor : tensors) {
      c.tensors += 1;
      c.parameters += tensor.bytes / int64_t(find_dtype(tensor.dtype)->size);
      c.bytes += tensor.bytes;
      dtypes.insert(tensor.dtype);
    }
    c.dtypes.assign(dtypes.begin(), dtypes.end());
  }

  void compare(const fs::path& place, const std::vector<std::pair<std::string, std::vector<int64_t>>>& names,
               const std::vector<TensorInfo>& tensors) {
    std::map<std::string, std::vector<int64_t>> have;
    for (const auto& tensor : tensors) have[tensor.key] = tensor.shape;
    for (const auto& [key, shape] : names) {
      const auto found = have.find(key);
      if (found == have.end())
        doubt(fmt::format("{}: the tensor {} {} is missing", place.string(), key, shape));
      else if (found->second != shape)
        doubt(fmt::format("{}: the tensor {} is {}, the config wants {}", place.string(), key, found->second,
                          shape));
    }
  }

  const fs::path folder_;
  const std::string variant_;
  const WeightFiles files_;
  const Family& family_;
  ModelInfo& info_;
  std::vector<std::string> doubts_;
};

// What the loader itself would refuse: whatever the looks at single components do not find.
std::string refusal(const Family& family, const Request& request, bool deep) {
  try {
    check_variant(family, request);
    const auto resolved = family.resolve(request);
    if (!deep) return {};
    family.plan(resolved);
    attention::Recorder recorder;
    family.open(resolved, RunContext{.attention = {}, .recorder = recorder, .stop = {}, .progress = {}});
  } catch (const std::exception& e) {
    return message_of(e);
  }
  return {};
}

}  // namespace

ModelInfo inspect_model(const fs::path& folder, const std::string& variant,
                        const std::vector<std::string>& weights) {
  const auto& family = family_of(folder);
  Request request;
  request.model = folder.string();
  request.prompt = "p";
  request.variant = variant;
  request.weights = weights;
  request.device = "cpu";
  ModelInfo info;
  info.family = family.name;
  info.class_name = family.class_name;
  Inspector inspector(request, family, info);
  const auto index = read_json(folder / "model_index.json");
  std::set<std::string> named;
  for (const auto& [name, value] : index.items()) {
    if (!value.is_array() || value.size() != 2 || !value[0].is_string() || !value[1].is_string()) continue;
    named.insert(name);
    inspector.component(name, value[0].get<std::string>(), value[1].get<std::string>());
  }
  for (const auto& name : components_of(family, index))
    if (!named.contains(name))
      info.missing.push_back((folder / "model_index.json").string() + ": names no " + name);
  const auto& doubts = inspector.doubts();
  const bool loads = !doubts.empty() && info.missing.empty() && refusal(family, request, true).empty();
  if (!loads) info.missing.insert(info.missing.end(), doubts.begin(), doubts.end());
  const auto more = refusal(family, request, info.missing.empty());
  if (!more.empty() && std::find(info.missing.begin(), info.missing.end(), more) == info.missing.end())
    info.missing.push_back(more);
  return info;
}

json to_json(const ModelInfo& info) {
  json components = json::array();
  for (const auto& c : info.components)
    components.push_back({{"name", c.name},
                          {"library", c.library},
                          {"class", c.class_name},
                          {"file", c.file.empty() ? json() : json(c.file)},
                          {"tensors", c.tensors},
                          {"parameters", c.parameters},
                          {"bytes", c.bytes},
                          {"dtypes", c.dtypes}});
  return {{"family", info.family},
          {"class", info.class_name},
          {"components", components},
          {"missing", info.missing}};
}

std::string table_of(const ModelInfo& info) {
  std::string out = fmt::format("family      {} ({})\n", info.family, info.class_name);
  for (const auto& c : info.components) {
    out += fmt::format("{:<12}{:<16} {}", &c == info.components.data() ? "components" : "", c.name,
                       c.class_name);
    if (c.tensors > 0)
      out += fmt::format(": {} tensors, {} parameters, {}, {}", c.tensors, c.parameters, human_bytes(c.bytes),
                         fmt::join(c.dtypes, " "));
    if (!c.file.empty()) out += " of " + c.file;
    out += "\n";
  }
  constexpr size_t kShown = 20;
  for (size_t i = 0; i < std::min(info.missing.size(), kShown); ++i)
    out += fmt::format("{:<12}{}\n", i == 0 ? "missing" : "", info.missing[i]);
  if (info.missing.size() > kShown)
    out += fmt::format("            and {} more (--json lists all)\n", info.missing.size() - kShown);
  if (info.missing.empty()) out += "missing     nothing\n";
  return out;
}

}  // namespace sagelab
