// SPDX-License-Identifier: Apache-2.0
// Names, shapes, dtypes and what a model may ask for: on folders, on random numbers, on nothing.
#include "pipelines/core/weights.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "pipelines/core/safetensors.h"
#include "tests/pipelines/core/files.h"

namespace sagelab::testing {
namespace {

const Target kFp32;
const std::string kOther = " | the weights belong to another model than config.json";

// A folder with the tensors as model.safetensors.
std::shared_ptr<WeightSource> folder_with(const Folder& folder,
                                          const std::map<std::string, at::Tensor>& tensors,
                                          LoadProgress progress = {}) {
  write_safetensors(folder / "model.safetensors", tensors);
  return open_folder(folder.path(), "model", {}, std::move(progress));
}

std::map<std::string, at::Tensor> two_linears() {
  return {{"block.0.q.weight", at::arange(6, at::kFloat).reshape({2, 3})},
          {"block.0.q.bias", at::tensor({10.f, 11.f})},
          {"block.0.k.weight", at::arange(12, at::kFloat).reshape({4, 3}) + 100},
          {"block.0.k.bias", at::tensor({20.f, 21.f, 22.f, 23.f})}};
}

TEST(Weights, ReadsByPrefixIntoTheTargetsDtype) {
  const Folder folder;
  const auto tensors = two_linears();
  const Weights w(folder_with(folder, tensors), {at::kCPU, at::kBFloat16});
  const Weights block = w / "block" / int64_t(0);
  const Linear q = block.linear("q", 2, 3), k = (block / "k").linear("", 4, 3, true, at::kFloat);
  w.require_all_read();
  EXPECT_TRUE(at::equal(q.weight, tensors.at("block.0.q.weight").to(at::kBFloat16)));
  EXPECT_TRUE(at::equal(q.bias, tensors.at("block.0.q.bias").to(at::kBFloat16)));
  EXPECT_TRUE(at::equal(k.weight, tensors.at("block.0.k.weight"))) << "kept in fp32";
  EXPECT_EQ(k.bias.scalar_type(), at::kFloat);
  EXPECT_TRUE(w.has("block.0.q.weight"));
  EXPECT_FALSE(block.has("q.wait"));
  using Asked = std::vector<std::pair<std::string, std::vector<int64_t>>>;
  EXPECT_EQ(w.requested(), (Asked{{"block.0.k.bias", {4}},
                                  {"block.0.k.weight", {4, 3}},
                                  {"block.0.q.bias", {2}},
                                  {"block.0.q.weight", {2, 3}}}));
}

TEST(Weights, StacksLinearsOfOneInput) {
  const Folder folder;
  const auto tensors = two_linears();
  const Weights w(folder_with(folder, tensors), kFp32);
  const std::string_view names[] = {"q", "k"};
  const int64_t outs[] = {2, 4};
  const Linear qk = (w / "block.0").stacked(names, outs, 3);
  w.require_all_read();
  EXPECT_TRUE(
      at::equal(qk.weight, at::cat({tensors.at("block.0.q.weight"), tensors.at("block.0.k.weight")})));
  EXPECT_TRUE(at::equal(qk.bias, at::cat({tensors.at("block.0.q.bias"), tensors.at("block.0.k.bias")})));
  EXPECT_EQ(w.requested().size(), 4u);
  EXPECT_EQ(w.requested()[0].first, "block.0.k.bias");
}

TEST(Weights, StackedNamesTheCheckpointsOwnKeys) {
  const Folder folder;
  const Weights w(folder_with(folder, two_linears()), kFp32);
  const std::string file = folder.str() + "/model.safetensors";
  const std::string_view names[] = {"q", "k"}, wrong[] = {"q", "v"};
  const int64_t outs[] = {2, 5};
  EXPECT_EQ(error_of([&] { (w / "block.0").stacked(names, outs, 3); }),
            file + ": tensor block.0.k.weight has shape [4, 3], but [5, 3] is expected" + kOther);
  EXPECT_EQ(error_of([&] { (w / "block.0").stacked(wrong, outs, 3); }),
            folder.str() + ": tensor block.0.v.weight is missing" + kOther + ", or are incomplete");
}

TEST(Weights, RefusesMissingAndMisshapenTensors) {
  const Folder folder;
  const Weights w(folder_with(folder, two_linears()), kFp32);
  EXPECT_EQ(error_of([&] { (w / "block.0").linear("v", 2, 3); }),
            folder.str() + ": tensor block.0.v.weight is missing" + kOther + ", or are incomplete");
  EXPECT_EQ(error_of([&] { (w / "block.0").linear("q", 3, 2); }),
            folder.str() +
                "/model.safetensors: tensor block.0.q.weight has shape [2, 3], but [3, 2] is expected" +
                kOther);
  EXPECT_EQ(
      error_of([&] { (w / "block.0").tensor("q.bias", {}); }),
      folder.str() + "/model.safetensors: tensor block.0.q.bias has shape [2], but [] is expected" + kOther);
}

TEST(Weights, ListsTensorsThatNobodyAskedFor) {
  const Folder folder;
  std::map<std::string, at::Tensor> tensors = {{"used", at::ones({1})}};
  const std::string file = folder.str() + "/model.safetensors";
  for (int i = 0; i < 7; ++i) tensors["decoder." + std::to_string(i)] = at::ones({1});
  tensors["encoder.w"] = at::ones({1});
  const Weights w(folder_with(folder, tensors), kFp32);
  w.tensor("used", {1});
  const std::string_view decoder[] = {"decoder."}, both[] = {"decoder.", "encoder."};
  EXPECT_EQ(error_of([&] { w.require_all_read(); }), file +
                                                         ": 8 tensors are no part of this model: decoder.0, "
                                                         "decoder.1, decoder.2, decoder.3, decoder.4 and 3 "
                                                         "more" +
                                                         kOther);
  EXPECT_EQ(error_of([&] { w.require_all_read(decoder); }),
            file + ": 1 tensor is no part of this model: encoder.w" + kOther);
  EXPECT_EQ(error_of([&] { w.require_all_read(both); }), "");
  EXPECT_EQ(error_of([&] { (w / "encoder").require_all_read(); }),
            file + ": 1 tensor is no part of this model: encoder.w" + kOther);
}

TEST(Weights, ConvertsBetweenAllFloatingDtypes) {
  const auto dtypes = {at::kDouble,   at::kFloat,         at::kHalf,
                       at::kBFloat16, at::kFloat8_e4m3fn, at::kFloat8_e5m2};
  // More than one grain and not a multiple of it; an odd first tensor leaves the others unaligned for their
  // dtype.
  const at::Tensor values = at::linspace(-9, 9, 100'003, at::kDouble);
  for (const auto from : dtypes) {
    const Folder folder;
    write_safetensors(folder / "aligned.safetensors", {{"w", values.to(from)}});
    const std::string whole = read_bytes(folder / "aligned.safetensors");
    const size_t length = size_t(uint8_t(whole[0])) + 256 * size_t(uint8_t(whole[1]));
    folder.write("skewed.safetensors", safetensors(whole.substr(8, length) + " ", whole.substr(8 + length)));
    for (const auto to : {at::kFloat, at::kHalf, at::kBFloat16})
      for (const char* stem : {"aligned", "skewed"}) {
        const Weights w(open_folder(folder.path(), stem), {at::kCPU, to});
        const at::Tensor read = w.tensor("w", {100'003});
        w.require_all_read();
        EXPECT_TRUE(at::equal(read, values.to(from).to(to)))
            << stem << " " << c10::toString(from) << " to " << c10::toString(to);
      }
  }
}

// Of each row, in whatever shape a weight is; and nothing but e4m3 has one that we know.
TEST(Weights, ScalesAreOfE4m3) {
  const at::Tensor scales = at::tensor({.5f, 2.f, 3.f});
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{3}, {3, 5}, {3, 2, 1, 4}}) {
    const Folder folder;
    const at::Tensor stored = at::randn(shape).to(at::kFloat8_e4m3fn);
    const Weights w(folder_with(folder, {{"a.weight", stored}, {"a.weight_scale", scales}}), kFp32);
    const at::Tensor read = w.tensor("a.weight", shape);
    w.require_all_read();
    const at::Tensor expected = stored.to(at::kFloat).reshape({3, -1}) * scales.unsqueeze(1);
    EXPECT_TRUE(at::equal(read.reshape({3, -1}), expected)) << shape.size();
  }
  for (const auto dtype : {at::kFloat8_e5m2, at::kBFloat16}) {
    const Folder folder;
    const Weights w(folder_with(folder, {{"a.weight", at::ones({3, 5}).to(dtype)},
                                         {"a.scale_weight", scales},
                                         {"a.input_scale", at::ones({1})}}),
                    kFp32);
    w.tensor("a.weight", {3, 5});
    EXPECT_EQ(error_of([&] { w.require_all_read(); }),
              (folder / "model.safetensors").string() +
                  ": 1 tensor is no part of this model: a.scale_weight" + kOther);
  }
}

TEST(Weights, KeepsIntegersWhereAskedFor) {
  const Folder folder;
  const Weights w(folder_with(folder, {{"ids", at::arange(5)}}), kFp32);
  const at::Tensor ids = w.tensor("ids", {5}, at::kLong);
  w.require_all_read();
  EXPECT_TRUE(at::equal(ids, at::arange(5)));
}

TEST(Weights, OnMetaChecksShapesAndReadsNothing) {
  const Folder folder;
  int calls = 0;
  const Weights w(folder_with(folder, two_linears(), [&](int64_t, int64_t) { ++calls; }),
                  {at::kMeta, at::kBFloat16});
  const Linear q = (w / "block.0").linear("q", 2, 3);
  EXPECT_TRUE(q.weight.is_meta());
  EXPECT_EQ(q.weight.sizes(), (at::IntArrayRef{2, 3}));
  EXPECT_EQ(error_of([&] { (w / "block.0").linear("k", 2, 3); }),
            folder.str() +
                "/model.safetensors: tensor block.0.k.weight has shape [4, 3], but [2, 3] is expected" +
                kOther);
}

TEST(Weights, ShapeSourceLearnsWhatAModelReads) {
  const Weights w(shape_source(), {at::kMeta, at::kHalf});
  const std::string_view names[] = {"q", "k", "v"};
  const int64_t outs[] = {4, 4, 4};
  const Linear qkv = (w / "attn").stacked(names, outs, 4, false);
  EXPECT_EQ(qkv.weight.sizes(), (at::IntArrayRef{12, 4}));
  w.require_all_read();
  using Asked = std::vector<std::pair<std::string, std::vector<int64_t>>>;
  EXPECT_EQ(w.requested(),
            (Asked{{"attn.k.weight", {4, 4}}, {"attn.q.weight", {4, 4}}, {"attn.v.weight", {4, 4}}}));
  const Weights picky(shape_source([](std::string_view key) { return key != "shared.weight"; }),
                      {at::kMeta, at::kHalf});
  EXPECT_FALSE(picky.has("shared.weight"));
  EXPECT_TRUE(picky.has("embed_tokens.weight"));
  EXPECT_EQ(error_of([&] { picky.tensor("shared.weight", {1}); }),
            "a model without weights: tensor shared.weight is missing" + kOther + ", or are incomplete");
  EXPECT_THROW(Weights(shape_source(), kFp32).tensor("w", {1}), c10::Error);
}

TEST(Weights, SaysWhatDidNotFitInMemory) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer ends the process where an allocation fails";
#endif
  const Weights w(random_source(1), kFp32);
  const std::string error = error_of([&] { w.tensor("huge", {1 << 20, 1 << 28}); });
  EXPECT_TRUE(error.starts_with("out of memory on cpu while loading huge: it takes 1125899.91 GB, and "))
      << error;
  EXPECT_TRUE(error.ends_with(" are free | free memory there, or choose a smaller model or dtype")) << error;
}

TEST(RandomSource, DrawsEachTensorAsItsKindWants) {
  const Weights w(random_source(7), kFp32);
  const at::Tensor matrix = w.tensor("a.weight", {256, 400}),
                   conv = w.tensor("conv.weight", {64, 32, 3, 3, 3});
  const at::Tensor norm = w.tensor("norm.weight", {4096}), bias = w.tensor("norm.bias", {4096});
  EXPECT_NEAR(matrix.std().item<double>(), 1 / std::sqrt(400.0), 2e-3);
  EXPECT_NEAR(matrix.mean().item<double>(), 0, 1e-3);
  EXPECT_NEAR(conv.std().item<double>(), 1 / std::sqrt(32.0 * 27), 2e-3);
  EXPECT_GE(norm.min().item<double>(), 0.9);
  EXPECT_LE(norm.max().item<double>(), 1.1);
  EXPECT_GT(norm.std().item<double>(), 0.03);
  EXPECT_NEAR(bias.std().item<double>(), 0.02, 2e-3);
  EXPECT_NE(matrix.storage().data(), norm.storage().data());
}

TEST(RandomSource, DependsOnSeedAndKeyAlone) {
  const auto draw = [](uint64_t seed, std::vector<std::string> order) {
    const Weights w(random_source(seed), {at::kCPU, at::kBFloat16});
    std::map<std::string, at::Tensor> tensors;
    for (const auto& key : order) tensors[key] = w.tensor(key, {8, 8});
    w.require_all_read();
    return tensors;
  };
  const auto first = draw(1, {"a.weight", "b.weight", "c.weight"}),
             second = draw(1, {"c.weight", "a.weight"});
  EXPECT_TRUE(at::equal(first.at("a.weight"), second.at("a.weight")));
  EXPECT_TRUE(at::equal(first.at("c.weight"), second.at("c.weight")));
  EXPECT_FALSE(at::equal(first.at("a.weight"), first.at("b.weight")));
  EXPECT_FALSE(at::equal(first.at("a.weight"), draw(2, {"a.weight"}).at("a.weight")));
  const Weights w(random_source(1), {at::kCPU, at::kBFloat16});
  const std::string_view names[] = {"a", "b"};
  const int64_t outs[] = {8, 8};
  EXPECT_TRUE(at::equal(w.stacked(names, outs, 8, false).weight,
                        at::cat({first.at("a.weight"), first.at("b.weight")})));
}

}  // namespace
}  // namespace sagelab::testing
