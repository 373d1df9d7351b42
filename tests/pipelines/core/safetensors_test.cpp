// SPDX-License-Identifier: Apache-2.0
// Against files of the safetensors library, both ways; and what becomes of a file that cannot be written.
#include "pipelines/core/safetensors.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstdlib>

#include "tests/pipelines/core/files.h"

namespace sagelab::testing {
namespace {

const fs::path kFixtures = fs::path(SAGELAB_FIXTURES) / "safetensors";

std::string hex(const at::Tensor& tensor) {
  const at::Tensor values = tensor.contiguous();
  const auto* bytes = static_cast<const unsigned char*>(values.data_ptr());
  std::string text;
  for (size_t i = 0; i < values.nbytes(); ++i) text += fmt::format("{:02x}", bytes[i]);
  return text;
}

nlohmann::json contents(const std::string& key, const at::Tensor& tensor) {
  return {{key,
           {{"dtype", safetensors_dtype(tensor.scalar_type())},
            {"shape", tensor.sizes().vec()},
            {"hex", hex(tensor)}}}};
}

nlohmann::json contents(const SafetensorsFile& file) {
  nlohmann::json all = nlohmann::json::object();
  for (const auto& [key, stored] : file.tensors()) all.update(contents(key, file.tensor(key)));
  return all;
}

TEST(Safetensors, ReadsEveryDtypeOfTheLibrary) {
  const SafetensorsFile file(kFixtures / "dtypes.safetensors");
  EXPECT_EQ(contents(file), nlohmann::json::parse(read_bytes(kFixtures / "dtypes.json")));
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}, {"note", "größer"}}));
  EXPECT_EQ(file.tensors().at("BF16").dtype, at::kBFloat16);
  EXPECT_EQ(file.tensor("scalar").item<float>(), 2.5f);
}

TEST(Safetensors, NamesAMissingTensor) {
  const SafetensorsFile file(kFixtures / "dtypes.safetensors");
  EXPECT_EQ(error_of([&] { file.tensor("none"); }), file.path().string() + ": tensor none is missing | ");
}

TEST(Safetensors, TheLibraryReadsWhatWeWrite) {
  const Folder folder;
  std::map<std::string, at::Tensor> tensors;
  const at::Tensor base = at::arange(24, at::kFloat).reshape({4, 6});
  for (const auto dtype :
       {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kFloat8_e4m3fn, at::kFloat8_e5m2, at::kLong,
        at::kInt, at::kShort, at::kChar, at::kByte, at::kBool})
    tensors[std::string("as ") + c10::toString(dtype)] = base.to(dtype);
  tensors["strided"] = base.t();
  tensors["scalar"] = at::scalar_tensor(3.25);
  tensors["empty"] = at::empty({3, 0});
  tensors["quote\" \\ ü"] = at::ones({1}, at::kByte);
  const std::map<std::string, std::string> metadata = {{"comment", "zwei\nZeilen"}};
  write_safetensors(folder / "ours.safetensors", tensors, metadata);

  nlohmann::json expected = {{"tensors", nlohmann::json::object()}, {"metadata", metadata}};
  for (const auto& [key, tensor] : tensors) expected["tensors"].update(contents(key, tensor));
  folder.write("expected.json", expected.dump());
  const std::string command =
      fmt::format("{} {} --verify {} {}", SAGELAB_PYTHON, SAGELAB_ORACLE,
                  (folder / "ours.safetensors").string(), (folder / "expected.json").string());
  EXPECT_EQ(std::system(command.c_str()), 0);

  const SafetensorsFile again(folder / "ours.safetensors");
  EXPECT_EQ(contents(again), expected["tensors"]);
  EXPECT_EQ(again.metadata(), metadata);
  for (const auto& [key, stored] : again.tensors())
    EXPECT_EQ(stored.begin % c10::elementSize(stored.dtype), 0u) << key << " is not aligned";
}

TEST(SafetensorsWriter, RefusesADtypeThatTheFormatLacks) {
  const Folder folder;
  EXPECT_EQ(error_of([&] {
              write_safetensors(folder / "x.safetensors", {{"z", at::ones({2}, at::kComplexFloat)}});
            }),
            "the safetensors format has no dtype for ComplexFloat | ");
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(SafetensorsWriter, SaysWhereItCannotWrite) {
  const Folder folder;
  const std::map<std::string, at::Tensor> tensors = {{"latents", at::ones({2})}};
  EXPECT_EQ(error_of([&] { write_safetensors(folder / "none/x.safetensors", tensors); }),
            "cannot write " + folder.str() +
                "/none/x.safetensors: No such file or directory | make the folder " + folder.str() +
                "/none first, or choose another place");
  folder.write("file", "");
  EXPECT_EQ(error_of([&] { write_safetensors(folder / "file/x.safetensors", tensors); }),
            "cannot write " + folder.str() + "/file/x.safetensors: Not a directory | choose another place");
  fs::create_directories(folder / "taken");
  EXPECT_EQ(error_of([&] { write_safetensors(folder / "taken", tensors); }),
            folder.str() + "/taken is a folder | choose another name for the file");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 2) << "a draft is left behind";
}

// The disk ends in the middle of the file: what was there before stays, and nothing half-written does.
TEST(SafetensorsWriter, KeepsTheOldFileWhenTheDiskIsFull) {
  const Folder folder;
  write_safetensors(folder / "x.safetensors", {{"latents", at::full({4}, 7.0)}});
  rlimit before = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small = {100'000, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string error = error_of([&] {
    write_safetensors(folder / "x.safetensors", {{"latents", at::ones({100'000})}});
  });
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(error, "cannot write " + folder.str() + "/x.safetensors: File too large | free some space in " +
                       folder.str() + ", or choose another place");
  EXPECT_EQ(SafetensorsFile(folder / "x.safetensors").tensor("latents").sum().item<float>(), 28.0f);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1) << "a draft is left behind";
}

}  // namespace
}  // namespace sagelab::testing
