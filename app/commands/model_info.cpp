// SPDX-License-Identifier: Apache-2.0
#include "app/commands/model_info.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

#include "attention/error.h"
#include "pipelines/core/config.h"
#include "pipelines/core/memory.h"
#include "pipelines/core/safetensors.h"
#include "pipelines/registry.h"

namespace sagelab {
namespace {
namespace fs = std::filesystem;
using nlohmann::json;

using Shapes = std::map<std::string, std::vector<int64_t>>;

class Inspector {
 public:
  Inspector(const fs::path& folder, const std::string& variant, const Family& family, ModelInfo& info)
      : folder_(folder), variant_(variant), family_(family), info_(info) {}

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

 private:
  void missing(std::string line) { info_.missing.push_back(std::move(line)); }

  void any_of(const fs::path& place, std::initializer_list<const char*> names) {
    for (const auto* name : names)
      if (fs::exists(place / name)) return;
    missing(fmt::format("{}: {} is missing", place.string(), fmt::join(names, " or ")));
  }

  std::vector<fs::path> files(const std::string& library, const fs::path& place) {
    const std::string stem = library == "transformers" ? "model" : "diffusion_pytorch_model";
    const auto dotted = variant_.empty() ? "" : "." + variant_;
    const auto single = place / (stem + dotted + ".safetensors");
    if (fs::exists(single)) return {single};
    const auto index = place / (stem + ".safetensors.index" + dotted + ".json");
    if (!fs::exists(index)) {
      missing(fmt::format("{}: no {} and no {}", place.string(), single.filename().string(),
                          index.filename().string()));
      return {};
    }
    std::set<std::string> shards;
    try {
      const auto parsed = read_json(index);
      for (const auto& [key, shard] : parsed.at("weight_map").items())
        shards.insert(shard.get<std::string>());
    } catch (const json::exception&) {
      missing(index.string() + ": has no weight_map of tensors to files");
    } catch (const Error& e) {
      missing(e.what());
    }
    std::vector<fs::path> found;
    for (const auto& shard : shards) {
      if (fs::exists(place / shard))
        found.push_back(place / shard);
      else
        missing((place / shard).string() + ": the shard is missing");
    }
    return found;
  }

  void weights(ModelInfo::Component& c, const fs::path& place) {
    const auto problems = info_.missing.size();
    Shapes have;
    for (const auto& file : files(c.library, place)) add_file(c, file, have);
    if (!fs::exists(place / "config.json")) return missing((place / "config.json").string() + ": is missing");
    if (info_.missing.size() != problems) return;  // else every tensor of a lost shard would be listed
    try {
      for (const auto& [key, shape] : family_.names(c.name, read_json(place / "config.json"))) {
        const auto found = have.find(key);
        if (found == have.end())
          missing(fmt::format("{}: the tensor {} {} is missing", place.string(), key, shape));
        else if (found->second != shape)
          missing(fmt::format("{}: the tensor {} is {}, the config wants {}", place.string(), key,
                              found->second, shape));
      }
    } catch (const Error& e) {
      missing(e.what());
    }
  }

  void add_file(ModelInfo::Component& c, const fs::path& path, Shapes& have) {
    try {
      const SafetensorsFile file(path);
      std::set<std::string> dtypes(c.dtypes.begin(), c.dtypes.end());
      for (const auto& [key, tensor] : file.tensors()) {
        int64_t elements = 1;
        for (const auto n : tensor.shape) elements *= n;
        c.tensors += 1;
        c.parameters += elements;
        c.bytes += int64_t(tensor.end - tensor.begin);
        dtypes.insert(safetensors_dtype(tensor.dtype));
        have[key] = tensor.shape;
      }
      c.dtypes.assign(dtypes.begin(), dtypes.end());
    } catch (const Error& e) {
      missing(e.what());
    }
  }

  const fs::path& folder_;
  const std::string& variant_;
  const Family& family_;
  ModelInfo& info_;
};

}  // namespace

ModelInfo inspect_model(const fs::path& folder, const std::string& variant) {
  const auto& family = family_of(folder);
  ModelInfo info;
  info.family = family.name;
  info.class_name = family.class_name;
  Inspector inspector(folder, variant, family, info);
  const auto index = read_json(folder / "model_index.json");
  std::set<std::string> named;
  for (const auto& [name, value] : index.items()) {
    if (!value.is_array() || value.size() != 2 || !value[0].is_string() || !value[1].is_string()) continue;
    named.insert(name);
    inspector.component(name, value[0].get<std::string>(), value[1].get<std::string>());
  }
  for (const auto& name : family.components)
    if (!named.contains(name))
      info.missing.push_back((folder / "model_index.json").string() + ": names no " + name);
  return info;
}

json to_json(const ModelInfo& info) {
  json components = json::array();
  for (const auto& c : info.components)
    components.push_back({{"name", c.name},
                          {"library", c.library},
                          {"class", c.class_name},
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
