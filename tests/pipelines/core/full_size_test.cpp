// SPDX-License-Identifier: Apache-2.0
// What we read of each released variant is what the diffusers or transformers class holds: the same keys, the
// same shapes. On sparse folders of full size: genuine headers and configs, no data.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>

#include "pipelines/core/config.h"
#include "pipelines/core/weights.h"
#include "pipelines/registry.h"
#include "tests/pipelines/core/files.h"

namespace sagelab::testing {
namespace {

using Shapes = std::map<std::string, std::vector<int64_t>>;

struct Variant {
  std::string name;
  std::map<std::string, int64_t> parameters;  // as counted for the released checkpoints
  std::string dtype;
};

const std::vector<Variant> kVariants = {
    {"cogvideox_2b",
     {{"transformer", 1'693'783'872}, {"vae", 215'583'907}, {"text_encoder", 4'762'310'656}},
     "F16"},
    {"cogvideox_5b",
     {{"transformer", 5'570'283'072}, {"vae", 215'583'907}, {"text_encoder", 4'762'310'656}},
     "BF16"},
    {"cogvideox_1.5",
     {{"transformer", 5'570'676'352}, {"vae", 215'583'907}, {"text_encoder", 4'762'310'656}},
     "BF16"},
};

void PrintTo(const Variant& variant, std::ostream* out) {
  *out << variant.name;
}

const char* stem_of(const std::string& component) {
  return component.starts_with("text_encoder") ? "model" : "diffusion_pytorch_model";
}

class FullSize : public ::testing::TestWithParam<Variant> {
 protected:
  fs::path folder() const { return fs::path(SAGELAB_FIXTURES) / "full_size" / GetParam().name; }
  // Of the class, without what no text-to-video run needs.
  Shapes class_shapes(const std::string& component) const {
    const nlohmann::json keys = read_json(folder() / "keys.json");
    Shapes shapes = keys.at(component).get<Shapes>();
    if (component == "vae")
      std::erase_if(shapes, [](const auto& entry) { return entry.first.starts_with("encoder."); });
    return shapes;
  }
};

TEST_P(FullSize, WeReadWhatTheClassHolds) {
  const Family& family = family_of(folder());
  ASSERT_FALSE(family.components.empty());
  for (const auto& component : family.components) {
    const auto names = family.names(component, read_json(folder() / component / "config.json"));
    const Shapes ours(names.begin(), names.end()), theirs = class_shapes(component);
    ASSERT_GT(theirs.size(), 100u);
    for (const auto& [key, shape] : theirs) {
      ASSERT_TRUE(ours.contains(key)) << component << " does not read " << key;
      ASSERT_EQ(ours.at(key), shape) << component << " " << key;
    }
    for (const auto& [key, shape] : ours) ASSERT_TRUE(theirs.contains(key)) << component << " reads " << key;
  }
}

TEST_P(FullSize, HeadersAloneTellKeysShapesAndSizes) {
  const auto start = std::chrono::steady_clock::now();
  for (const auto& [component, parameters] : GetParam().parameters) {
    const nlohmann::json keys = read_json(folder() / "keys.json");
    Shapes listed;
    int64_t bytes = 0;
    for (const auto& info : list_folder(folder() / component, stem_of(component))) {
      listed[info.key] = info.shape;
      bytes += info.bytes;
      ASSERT_EQ(info.dtype, GetParam().dtype);
    }
    EXPECT_EQ(listed, keys.at(component).get<Shapes>());
    EXPECT_EQ(bytes, 2 * parameters);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5)) << "data was read";
}

// The loader itself, on the smallest component that is of full size.
TEST_P(FullSize, TheLoaderReadsTheVae) {
  const Weights w(open_folder(folder() / "vae", stem_of("vae")), {at::kCPU, at::kBFloat16});
  std::vector<at::Tensor> tensors;
  for (const auto& [key, shape] : class_shapes("vae")) tensors.push_back(w.tensor(key, shape));
  const std::string_view encoder[] = {"encoder."};
  w.require_all_read(encoder);
  for (const auto& tensor : tensors) ASSERT_EQ(tensor.count_nonzero().item<int64_t>(), 0);
}

INSTANTIATE_TEST_SUITE_P(Released, FullSize, ::testing::ValuesIn(kVariants), [](const auto& info) {
  std::string name = info.param.name;
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
});

}  // namespace
}  // namespace sagelab::testing
