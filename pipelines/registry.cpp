// SPDX-License-Identifier: Apache-2.0
#include "pipelines/registry.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <fstream>
#include <set>
#include <sstream>

#include "attention/error.h"
#include "pipelines/cogvideox/pipeline.h"
#include "pipelines/common/weights/weight_files.h"
#include "pipelines/core/config.h"
#include "pipelines/core/files/sha256.h"
#include "pipelines/core/weights.h"
#include "pipelines/flux/pipeline.h"
#include "pipelines/hunyuanvideo/pipeline.h"
#include "pipelines/mochi/pipeline.h"
#include "pipelines/sd3/pipeline.h"

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

// What save_pretrained of each library names weights.
std::string stem_of(const nlohmann::json& index, const std::string& component) {
  const auto entry = index.find(component);
  const bool transformers =
      entry != index.end() && entry->is_array() && !entry->empty() && entry->front() == "transformers";
  return transformers ? "model" : "diffusion_pytorch_model";
}

void add_tensors(Sha256& sum, const std::vector<TensorInfo>& tensors, bool with_files) {
  for (const TensorInfo& t : tensors)
    sum.add(fmt::format("{} {} [{}] {}{}\n", t.key, t.dtype, fmt::join(t.shape, ","), t.bytes,
                        with_files ? " " + t.file : ""));
}

std::string weights_digest(const fs::path& folder, const std::string& stem, const std::string& variant) {
  Sha256 sum;
  const std::vector<TensorInfo> tensors = list_folder(folder, stem, variant);
  add_tensors(sum, tensors, true);
  std::set<std::string> files;
  for (const TensorInfo& tensor : tensors) files.insert(tensor.file);
  for (const auto& file : files) sum.add(fmt::format("{} {}\n", file, fs::file_size(folder / file)));
  return sum.hex();
}

// Whatever its name: one such file stands for another of the same tensors, so that some of its data counts.
std::string file_digest(const fs::path& file) {
  constexpr uintmax_t kSamples = 64, kBytes = 4096;
  Sha256 sum;
  add_tensors(sum, list_file(file, {}), false);
  const uintmax_t size = fs::file_size(file);
  sum.add(fmt::format("{}\n", size));
  std::ifstream data(file, std::ios::binary);
  std::string sample(kBytes, '\0');
  for (uintmax_t i = 0; i < kSamples; ++i) {
    data.clear();
    data.seekg(std::streamoff(size / kSamples * i));
    data.read(sample.data(), std::streamsize(kBytes));
    sum.add(std::string_view(sample.data(), size_t(data.gcount())));
  }
  return sum.hex();
}

// Configs and tokenizers; nothing that large belongs to them.
std::string configs_digest(const fs::path& model, const nlohmann::json& index) {
  constexpr uintmax_t kLargest = 32 << 20;
  std::set<fs::path> files{model / "model_index.json"};
  for (const auto& [name, entry] : index.items()) {
    std::error_code ignored;
    if (!entry.is_array()) continue;
    for (const auto& file : fs::directory_iterator(model / name, ignored))
      if (file.is_regular_file() && file.path().extension() != ".safetensors" &&
          file.path().extension() != ".bin" && file.file_size() <= kLargest)
        files.insert(file.path());
  }
  Sha256 sum;
  for (const auto& file : files) {
    std::stringstream bytes;
    bytes << std::ifstream(file, std::ios::binary).rdbuf();
    sum.add(fmt::format("{} {}\n", fs::relative(file, model).string(), bytes.view().size()));
    sum.add(bytes.view());
  }
  return sum.hex();
}

}  // namespace

std::map<std::string, std::string> model_digests(const Family& family, const Request& request) {
  std::map<std::string, std::string> digests;
  if (family.components.empty()) return digests;
  const fs::path model = request.model;
  const nlohmann::json index = read_json(model / "model_index.json");
  const WeightFiles files(request);
  for (const std::string& component : components_of(family, index))
    if (const fs::path file = files.file_for(component); !file.empty())
      digests[component] = file_digest(file);
    else
      digests[component] = weights_digest(model / component, stem_of(index, component), request.variant);
  digests["configs"] = configs_digest(model, index);
  return digests;
}

std::vector<std::string> check_variant(const Family& family, const Request& request) {
  std::vector<std::string> lacking;
  if (request.variant.empty() || family.components.empty()) return lacking;
  const fs::path model = request.model;
  const nlohmann::json index = read_json(model / "model_index.json");
  const WeightFiles files(request);
  std::vector<std::string> components = components_of(family, index);
  std::erase_if(components, [&](const std::string& name) { return !files.file_for(name).empty(); });
  for (const std::string& component : components)
    if (!has_variant(model / component, stem_of(index, component), request.variant))
      lacking.push_back(fmt::format("{} has no files of the variant {}: its plain ones are read",
                                    (model / component).string(), request.variant));
  if (!components.empty() && lacking.size() == components.size())
    throw Error(
        fmt::format("{}: no component has files of the variant {}", model.string(), request.variant),
        "leave --variant out, or name one that is there: fp16 of diffusion_pytorch_model.fp16.safetensors");
  return lacking;
}

std::vector<std::string> components_of(const Family& family, const nlohmann::json& index) {
  std::vector<std::string> names = family.components;
  std::erase_if(names, [&](const std::string& name) {
    const auto entry = index.find(name);
    return entry != index.end() && (entry->is_null() || *entry == nlohmann::json::array({nullptr, nullptr}));
  });
  return names;
}

std::span<const Family> families() {
  static const std::array kFamilies = {cogvideox::family(), flux::family(), hunyuanvideo::family(),
                                       mochi::family(), sd3::family()};
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
