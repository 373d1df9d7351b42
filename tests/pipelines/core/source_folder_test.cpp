// SPDX-License-Identifier: Apache-2.0
// Which files of a component folder are read: single, shards, variants; and what is said where they do not
// fit.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "pipelines/core/safetensors.h"
#include "pipelines/core/weights.h"
#include "tests/pipelines/core/files.h"

namespace sagelab::testing {
namespace {

const fs::path kFolders = fs::path(SAGELAB_FIXTURES) / "safetensors";
constexpr const char* kStem = "diffusion_pytorch_model";
const std::string kBoth = " | index and shards do not belong together; download both again";
const std::string kIndex = " | the index is damaged; download it again";

std::set<std::string> files_of(const fs::path& folder, const char* stem, const char* variant = "") {
  std::set<std::string> files;
  for (const auto& info : list_folder(folder, stem, variant)) files.insert(info.file);
  return files;
}

void write_index(const Folder& folder, const nlohmann::json& map,
                 const std::string& name = "model.safetensors.index.json") {
  folder.write(name, nlohmann::json({{"metadata", {{"total_size", 1}}}, {"weight_map", map}}).dump());
}

std::string open_error(const Folder& folder, const char* variant = "") {
  return error_of([&] { open_folder(folder.path(), "model", variant); });
}

// Values as diffusers' own class holds them, against what open_folder reads from what it saved.
void expect_contents(const char* folder, const char* variant, const char* expected, at::ScalarType dtype) {
  const auto want = nlohmann::json::parse(read_bytes(kFolders / expected));
  const Weights w(open_folder(kFolders / folder, kStem, variant), {at::kCPU, dtype});
  std::map<std::string, at::Tensor> read;
  for (const auto& [key, entry] : want.items())
    read[key] = w.tensor(key, entry["shape"].get<std::vector<int64_t>>());
  w.require_all_read();
  for (const auto& [key, entry] : want.items()) {
    const auto* bytes = static_cast<const unsigned char*>(read[key].data_ptr());
    std::string hex;
    for (size_t i = 0; i < read[key].nbytes(); ++i) hex += fmt::format("{:02x}", bytes[i]);
    EXPECT_EQ(hex, entry["hex"]) << key;
  }
}

TEST(SourceFolder, ReadsShardsVariantsAndSingleFilesOfDiffusers) {
  expect_contents("sharded", "", "sharded.json", at::kFloat);
  expect_contents("sharded", "fp16", "sharded.fp16.json", at::kHalf);
  expect_contents("single", "fp16", "sharded.fp16.json", at::kHalf);
  EXPECT_EQ(files_of(kFolders / "sharded", kStem).size(), 3u);
  EXPECT_EQ(files_of(kFolders / "sharded", kStem, "fp16").size(), 6u);
  EXPECT_EQ(files_of(kFolders / "single", kStem, "fp16"),
            (std::set<std::string>{"diffusion_pytorch_model.fp16.safetensors"}));
}

TEST(SourceFolder, ListsTensorsSorted) {
  const Folder folder;
  write_safetensors(folder / "model.safetensors",
                    {{"b", at::ones({2, 3}, at::kHalf)}, {"a", at::ones({}, at::kLong)}});
  const auto list = list_folder(folder.path(), "model");
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0].key, "a");
  EXPECT_EQ(list[0].dtype, "I64");
  EXPECT_EQ(list[0].bytes, 8);
  EXPECT_EQ(list[1].shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(list[1].dtype, "F16");
  EXPECT_EQ(list[1].bytes, 12);
  EXPECT_EQ(list[1].file, "model.safetensors");
}

TEST(SourceFolder, AComponentWithoutTheVariantIsReadFromItsPlainFiles) {
  const Folder folder;
  write_safetensors(folder / "model.safetensors", {{"a", at::ones({1})}});
  EXPECT_EQ(files_of(folder.path(), "model", "fp16"), (std::set<std::string>{"model.safetensors"}));
  write_safetensors(folder / "model.fp16.safetensors", {{"a", at::ones({1}, at::kHalf)}});
  EXPECT_EQ(files_of(folder.path(), "model", "fp16"), (std::set<std::string>{"model.fp16.safetensors"}));
  EXPECT_EQ(files_of(folder.path(), "model"), (std::set<std::string>{"model.safetensors"}));
}

TEST(SourceFolder, SingleFileAndIndexAreChosenAsTheirLibraryDoes) {
  const Folder folder;
  for (const char* stem : {"model", kStem}) {
    write_safetensors(folder / fmt::format("{}.safetensors", stem), {{"a", at::ones({1})}});
    write_safetensors(folder / fmt::format("{}-00001-of-00001.safetensors", stem), {{"a", at::ones({1})}});
    write_index(folder, {{"a", fmt::format("{}-00001-of-00001.safetensors", stem)}},
                fmt::format("{}.safetensors.index.json", stem));
  }
  EXPECT_EQ(files_of(folder.path(), "model"), (std::set<std::string>{"model.safetensors"}));
  EXPECT_EQ(files_of(folder.path(), kStem),
            (std::set<std::string>{"diffusion_pytorch_model-00001-of-00001.safetensors"}));
}

TEST(SourceFolder, TheIndexNamesTheShardsWhateverTheyAreCalled) {
  const Folder folder;
  write_safetensors(folder / "left.safetensors", {{"a", at::ones({1})}});
  write_safetensors(folder / "right.safetensors", {{"b", at::ones({1})}});
  write_safetensors(folder / "model-00001-of-00001.safetensors", {{"a", at::zeros({1})}});
  write_index(folder, {{"a", "left.safetensors"}, {"b", "right.safetensors"}});
  EXPECT_EQ(files_of(folder.path(), "model"),
            (std::set<std::string>{"left.safetensors", "right.safetensors"}));
  write_index(folder, {{"a", "left.safetensors"}}, "model.safetensors.bf16.index.json");
  EXPECT_EQ(files_of(folder.path(), "model", "bf16"), (std::set<std::string>{"left.safetensors"}));
}

TEST(SourceFolder, SaysWhatIsNotThere) {
  const Folder folder;
  EXPECT_EQ(error_of([&] { open_folder(folder / "none", "model"); }),
            folder.str() + "/none: no such folder | point to the folder of a whole diffusers checkpoint");
  EXPECT_EQ(open_error(folder), folder.str() +
                                    ": neither model.safetensors nor model.safetensors.index.json is there"
                                    " | the checkpoint is incomplete; download the file");
  write_safetensors(folder / "model-00001-of-00002.safetensors", {{"a", at::ones({1})}});
  EXPECT_EQ(
      open_error(folder),
      folder.str() +
          ": model-00001-of-00002.safetensors is there, but not model.safetensors.index.json, which tells "
          "what each shard holds | the checkpoint is incomplete; download the index");
}

TEST(SourceFolder, OtherVariantsAreNamed) {
  const Folder folder;
  write_safetensors(folder / "model.fp16.safetensors", {{"a", at::ones({1})}});
  folder.write("model.safetensors.index.bf16.json", "{}");
  EXPECT_EQ(open_error(folder), folder.str() +
                                    ": model.safetensors is missing; there is only the variant bf16, fp16"
                                    " | ask for it with --variant bf16");
  EXPECT_EQ(open_error(folder, "int8"), folder.str() +
                                            ": model.safetensors is missing; there is only the variant bf16, "
                                            "fp16 | ask for it with --variant bf16");
}

TEST(SourceFolder, PicklesAreNotRead) {
  for (const char* name :
       {"pytorch_model.bin", "model.pt", "model.ckpt", "pytorch_model-00001-of-00002.bin"}) {
    const Folder folder;
    folder.write(name, "pickle");
    EXPECT_EQ(open_error(folder),
              folder.str() + ": the weights are there only as a pickle (" + name +
                  "), which can run any code and is not read"
                  " | save them again with save_pretrained(..., safe_serialization=True)");
  }
}

TEST(SourceFolder, AnIndexMustFitItsShards) {
  const Folder folder;
  write_safetensors(folder / "s1.safetensors", {{"a", at::ones({1})}, {"b", at::ones({1})}});
  write_index(folder, {{"a", "s1.safetensors"}, {"b", "s2.safetensors"}});
  EXPECT_EQ(open_error(folder), folder.str() +
                                    ": s2.safetensors is missing, which model.safetensors.index.json names"
                                    " | the checkpoint is incomplete; download the file");
  write_index(folder, {{"a", "s1.safetensors"}, {"b", "s1.safetensors"}, {"c", "s1.safetensors"}});
  EXPECT_EQ(open_error(folder),
            folder.str() +
                "/s1.safetensors: tensor c is missing, which model.safetensors.index.json "
                "places here" +
                kBoth);
  write_index(folder, {{"a", "s1.safetensors"}});
  EXPECT_EQ(open_error(folder),
            folder.str() +
                "/s1.safetensors: holds tensor b, which model.safetensors.index.json does "
                "not name" +
                kBoth);
}

TEST(SourceFolder, AnIndexNamesOnlyFilesOfItsFolder) {
  const Folder folder;
  const std::string index = folder.str() + "/model.safetensors.index.json: ";
  for (const char* name : {"../s.safetensors", "/etc/s.safetensors", "sub/s.safetensors", "..\\s.safetensors",
                           "pytorch_model.bin", ""}) {
    write_index(folder, {{"a", name}});
    EXPECT_EQ(open_error(folder), index + "weight_map sends a to " + name +
                                      ", which is no .safetensors file of this folder" + kIndex);
  }
  write_index(folder, {{"a", 3}});
  EXPECT_EQ(open_error(folder), index + "weight_map gives no file name for a" + kIndex);
  for (const char* json : {"[]", "{}", "{\"weight_map\": []}", "{\"weight_map\": {}}"}) {
    folder.write("model.safetensors.index.json", json);
    EXPECT_EQ(open_error(folder), index + "has no weight_map from tensors to files" + kIndex);
  }
  folder.write("model.safetensors.index.json", "{\"weight_map\": ");
  EXPECT_EQ(
      open_error(folder),
      index +
          "not valid JSON: parse error at line 1, column 16: syntax error while parsing value - unexpected "
          "end "
          "of input; expected '[', '{', or a literal | the file is damaged or incomplete; download it again");
}

TEST(SourceFolder, ATruncatedShardIsNamed) {
  const Folder folder;
  write_safetensors(folder / "s1.safetensors", {{"a", at::ones({1000})}});
  write_index(folder, {{"a", "s1.safetensors"}});
  fs::resize_file(folder / "s1.safetensors", 2000);
  const std::string error = open_error(folder);
  EXPECT_EQ(error, folder.str() +
                       "/s1.safetensors: tensor a ends at 4000, but the file holds 1928 bytes of tensors"
                       " | the file is incomplete; download or copy it again");
}

}  // namespace
}  // namespace sagelab::testing
