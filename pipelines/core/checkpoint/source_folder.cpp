// SPDX-License-Identifier: Apache-2.0
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "attention/error.h"
#include "pipelines/core/checkpoint/source_stored.h"
#include "pipelines/core/config.h"
#include "pipelines/core/weights.h"

namespace sagelab {
namespace {

namespace fs = std::filesystem;

using Shards = std::map<std::string, std::shared_ptr<const SafetensorsFile>>;

// What save_pretrained names the files of a component; the last form of an index is diffusers' former one.
struct Names {
  std::string single;
  std::vector<std::string> indices;
  Names(const std::string& stem, const std::string& variant) {
    const std::string dotted = variant.empty() ? "" : "." + variant;
    single = stem + dotted + ".safetensors";
    indices = {stem + ".safetensors.index" + dotted + ".json"};
    if (!variant.empty()) indices.push_back(stem + ".safetensors" + dotted + ".index.json");
  }
};

std::vector<std::string> files_in(const fs::path& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error))
    throw Error(fmt::format("{}: no such folder", folder.string()),
                "point to the folder of a whole diffusers checkpoint");
  std::vector<std::string> names;
  for (auto it = fs::directory_iterator(folder, error); !error && it != fs::directory_iterator();
       it.increment(error))
    names.push_back(it->path().filename().string());
  if (error) throw Error(fmt::format("{}: cannot be read: {}", folder.string(), error.message()));
  std::sort(names.begin(), names.end());
  return names;
}

// "fp16" of "model.fp16.safetensors" and "model.safetensors.index.fp16.json".
std::set<std::string> variants_in(const std::vector<std::string>& files, const std::string& stem) {
  std::set<std::string> variants;
  for (const auto& file : files)
    for (const auto& [begin, end] : {std::pair(stem + ".", std::string(".safetensors")),
                                     std::pair(stem + ".safetensors.index.", std::string(".json"))})
      if (file.size() > begin.size() + end.size() && file.starts_with(begin) && file.ends_with(end) &&
          file.find("-of-") == std::string::npos)
        variants.insert(file.substr(begin.size(), file.size() - begin.size() - end.size()));
  return variants;
}

[[noreturn]] void no_weights(const fs::path& folder, const std::string& stem,
                             const std::vector<std::string>& files) {
  for (const auto& file : files)
    for (const char* ending : {".bin", ".pt", ".pth", ".ckpt"})
      if (file.ends_with(ending))
        throw Error(
            fmt::format(
                "{}: the weights are there only as a pickle ({}), which can run any code and is not read",
                folder.string(), file),
            "save them again with save_pretrained(..., safe_serialization=True)");
  const auto variants = variants_in(files, stem);
  if (!variants.empty())
    throw Error(fmt::format("{}: {}.safetensors is missing; there is only the variant {}", folder.string(),
                            stem, fmt::join(variants, ", ")),
                fmt::format("ask for it with --variant {}", *variants.begin()));
  for (const auto& file : files)
    if (file.starts_with(stem) && file.ends_with(".safetensors"))
      throw Error(
          fmt::format("{}: {} is there, but not {}.safetensors.index.json, which tells what each shard holds",
                      folder.string(), file, stem),
          "the checkpoint is incomplete; download the index");
  throw Error(fmt::format("{}: neither {}.safetensors nor {}.safetensors.index.json is there",
                          folder.string(), stem, stem),
              "the checkpoint is incomplete; download the file");
}

// The single file or the index to read. Where both lie there, each library's own choice: transformers
// ("model") takes the single file, diffusers the index.
std::string choose(const fs::path& folder, const std::string& stem, const std::string& variant) {
  const auto files = files_in(folder);
  const auto there = [&](const std::string& name) {
    return std::binary_search(files.begin(), files.end(), name);
  };
  for (const auto& v :
       variant.empty() ? std::vector<std::string>{""} : std::vector<std::string>{variant, ""}) {
    const Names names(stem, v);
    if (stem == "model" && there(names.single)) return names.single;
    for (const auto& index : names.indices)
      if (there(index)) return index;
    if (there(names.single)) return names.single;
  }
  no_weights(folder, stem, files);
}

// The index's weight_map, checked: names of files of this very folder.
std::map<std::string, std::string> weight_map(const fs::path& index) {
  const nlohmann::json json = read_json(index);
  const auto bad = [&](const std::string& what) {
    throw Error(fmt::format("{}: {}", index.string(), what), "the index is damaged; download it again");
  };
  const auto it = json.is_object() ? json.find("weight_map") : json.end();
  if (it == json.end() || !it->is_object() || it->empty()) bad("has no weight_map from tensors to files");
  for (const auto& [key, file] : it->items()) {
    if (!file.is_string()) bad(fmt::format("weight_map gives no file name for {}", key));
    const auto& name = file.get_ref<const std::string&>();
    if (name.find_first_of("/\\") != std::string::npos || !name.ends_with(".safetensors"))
      bad(fmt::format("weight_map sends {} to {}, which is no .safetensors file of this folder", key, name));
  }
  return it->get<std::map<std::string, std::string>>();
}

// The first problem is thrown, or all are listed.
class Problems {
 public:
  explicit Problems(std::vector<std::string>* all = nullptr) : all_(all) {}
  void operator()(const Error& error) const {
    if (!all_) throw error;
    all_->push_back(error.what());
  }
  template <typename F>
  void during(F&& body) const {
    try {
      body();
    } catch (const Error& error) {
      (*this)(error);
    }
  }

 private:
  std::vector<std::string>* all_;
};

Shards open_shards(const fs::path& folder, const std::string& name,
                   const std::map<std::string, std::string>& map, const Problems& problem) {
  Shards shards;
  for (const auto& [key, file] : map) {
    if (!shards.try_emplace(file).second) continue;
    if (!fs::exists(folder / file))
      problem(Error(fmt::format("{}: {} is missing, which {} names", folder.string(), file, name),
                    "the checkpoint is incomplete; download the file"));
    else
      problem.during([&] { shards[file] = std::make_shared<SafetensorsFile>(folder / file); });
  }
  return shards;
}

LocatedMap from_index(const fs::path& folder, const std::string& name, const Problems& problem) {
  constexpr const char* kMixed = "index and shards do not belong together; download both again";
  const auto map = weight_map(folder / name);
  const Shards shards = open_shards(folder, name, map, problem);
  LocatedMap tensors;
  for (const auto& [key, file] : map) {
    const auto& shard = shards.at(file);
    if (!shard) continue;
    const auto it = shard->tensors().find(key);
    if (it == shard->tensors().end())
      problem(Error(
          fmt::format("{}: tensor {} is missing, which {} places here", shard->path().string(), key, name),
          kMixed));
    else
      tensors[key] = {shard, it->second};
  }
  for (const auto& [file, shard] : shards) {
    if (!shard) continue;
    for (const auto& [key, stored] : shard->tensors())
      if (!map.contains(key))
        problem(Error(
            fmt::format("{}: holds tensor {}, which {} does not name", shard->path().string(), key, name),
            kMixed));
  }
  return tensors;
}

LocatedMap locate(const fs::path& folder, const std::string& stem, const std::string& variant,
                  const Problems& problem = Problems()) {
  LocatedMap tensors;
  problem.during([&] {
    const std::string name = choose(folder, stem, variant);
    if (name.ends_with(".json")) {
      tensors = from_index(folder, name, problem);
      return;
    }
    const auto file = std::make_shared<const SafetensorsFile>(folder / name);
    for (const auto& [key, stored] : file->tensors()) tensors[key] = {file, stored};
  });
  return tensors;
}

std::vector<TensorInfo> listed(const LocatedMap& tensors) {
  std::vector<TensorInfo> list;
  for (const auto& [key, located] : tensors)
    list.push_back({key, located.stored.shape, safetensors_dtype(located.stored.dtype),
                    int64_t(located.stored.end - located.stored.begin),
                    located.file->path().filename().string()});
  return list;
}

// A component of a file that may hold several: keys behind the prefix that the file has, or all of them.
LocatedMap locate_in_file(const fs::path& path, std::span<const std::string_view> prefixes) {
  const auto file = std::make_shared<const SafetensorsFile>(path);
  const auto begins = [&](std::string_view prefix) {
    const auto it = file->tensors().lower_bound(std::string(prefix));
    return it != file->tensors().end() && it->first.starts_with(prefix);
  };
  const auto found = std::find_if(prefixes.begin(), prefixes.end(), begins);
  const std::string_view prefix = found == prefixes.end() ? std::string_view() : *found;
  LocatedMap tensors;
  for (const auto& [key, stored] : file->tensors())
    if (key.starts_with(prefix)) tensors[key.substr(prefix.size())] = {file, stored};
  return tensors;
}

// Whether a file's keys are the rules' originals: more of them are than are diffusers' own.
bool is_original(const LocatedMap& tensors, std::span<const OriginalName> rules) {
  int64_t theirs = 0, ours = 0;
  for (const auto& [key, located] : tensors)
    for (const OriginalName& rule : rules) {
      theirs += !renamed(key, rule.theirs, rule.ours).empty();
      ours += !renamed(key, rule.ours, rule.theirs).empty();
    }
  return theirs > ours;
}

}  // namespace

std::shared_ptr<WeightSource> open_folder(const fs::path& folder, std::string_view stem,
                                          std::string_view variant, LoadProgress progress) {
  return std::make_shared<StoredSource>(folder, locate(folder, std::string(stem), std::string(variant)),
                                        std::span<const OriginalName>(), std::move(progress));
}

std::shared_ptr<WeightSource> open_file(const fs::path& path, const OriginalNames& names,
                                        LoadProgress progress) {
  LocatedMap tensors = locate_in_file(path, names.prefixes);
  const bool original = is_original(tensors, names.rules);
  return std::make_shared<StoredSource>(path, std::move(tensors),
                                        original ? names.rules : std::span<const OriginalName>(),
                                        std::move(progress));
}

std::vector<TensorInfo> list_file(const fs::path& path, const OriginalNames& names) {
  return listed(locate_in_file(path, names.prefixes));
}

std::vector<TensorInfo> list_folder(const fs::path& folder, std::string_view stem, std::string_view variant) {
  return listed(locate(folder, std::string(stem), std::string(variant)));
}

FolderContents inspect_folder(const fs::path& folder, std::string_view stem, std::string_view variant) {
  FolderContents contents;
  contents.tensors =
      listed(locate(folder, std::string(stem), std::string(variant), Problems(&contents.problems)));
  return contents;
}

bool has_variant(const fs::path& folder, std::string_view stem, std::string_view variant) {
  const Names names{std::string(stem), std::string(variant)};
  std::error_code ignored;
  return fs::exists(folder / names.single, ignored) ||
         std::any_of(names.indices.begin(), names.indices.end(),
                     [&](const std::string& index) { return fs::exists(folder / index, ignored); });
}

}  // namespace sagelab
