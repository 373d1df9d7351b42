// SPDX-License-Identifier: Apache-2.0
// Single files under their authors' names give, tensor by tensor, what diffusers' converters make of them.
#include "pipelines/core/checkpoint/original.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <vector>

#include "attention/error.h"
#include "pipelines/core/safetensors.h"
#include "pipelines/core/weights.h"
#include "pipelines/flux/original.h"
#include "pipelines/image/original.h"
#include "pipelines/sd3/original.h"

namespace sagelab {
namespace {

namespace fs = std::filesystem;

struct Component {
  const char* name;
  const OriginalNames& (*names)();
  std::vector<std::string_view> unread;  // what the rules leave alone: encoders
  std::map<std::string, at::Tensor> tensors(const char* file) const {
    const SafetensorsFile stored(path(file));
    std::map<std::string, at::Tensor> out;
    for (const auto& [key, info] : stored.tensors()) {
      const auto begins = [&](std::string_view prefix) { return key.starts_with(prefix); };
      if (std::none_of(unread.begin(), unread.end(), begins)) out[key] = stored.tensor(key);
    }
    return out;
  }
  fs::path path(const std::string& file) const {
    return fs::path(SAGELAB_FIXTURES) / "original" / name / (file + ".safetensors");
  }
};

const std::vector<Component>& components() {
  static const std::vector<Component> kComponents = {
      {"flux", flux::original_names, {}},
      {"sd3", []() -> const OriginalNames& { return sd3::original_names(3); }, {}},
      {"vae", original_autoencoder_names, {"encoder.", "quant_conv."}}};
  return kComponents;
}

// Everything that `expected` holds, read from the file. Throws sagelab::Error.
void read_all(const Component& c, const std::string& file, const OriginalNames& names,
              const std::map<std::string, at::Tensor>& expected, int& wrong) {
  const Weights w(open_file(c.path(file), names), Target{});
  std::map<std::string, at::Tensor> read;
  for (const auto& [key, tensor] : expected) read[key] = w.tensor(key, tensor.sizes());
  w.require_all_read(c.unread);
  for (const auto& [key, tensor] : expected) wrong += !at::equal(read.at(key), tensor);
}

TEST(Original, EveryTensorIsWhatDiffusersMakesOfIt) {
  for (const Component& c : components()) {
    const auto expected = c.tensors("ours");
    EXPECT_GT(expected.size(), 40U);
    for (const char* file : {"theirs", "bundle", "ours"}) {
      SCOPED_TRACE(std::string(c.name) + " " + file);
      int wrong = 0;
      ASSERT_NO_THROW(read_all(c, file, c.names(), expected, wrong));
      EXPECT_EQ(wrong, 0);
    }
  }
}

// Each rule with something else in it: a tensor is missing, of another shape, or of other values.
TEST(Original, ARuleThatIsWrongShows) {
  for (const Component& c : components()) {
    const auto expected = c.tensors("ours");
    const std::span<const OriginalName> rules = c.names().rules;
    for (size_t i = 0; i < rules.size(); ++i)
      for (const int change : {0, 1, 2}) {
        if (change == 1 && rules[i].swapped) continue;  // halves have no shares
        std::vector<OriginalName> wrong_rules(rules.begin(), rules.end());
        OriginalName& rule = wrong_rules[i];
        if (change == 0) rule.swapped = !rule.swapped;
        if (change == 1) rule.of == 1 ? rule.of = 2 : rule.begin == 0 ? ++rule.end : --rule.begin;
        if (change == 2) rule.theirs = "elsewhere.";
        int wrong = 0;
        bool refused = false;
        try {
          read_all(c, "theirs", {wrong_rules, c.names().prefixes}, expected, wrong);
        } catch (const Error&) {
          refused = true;
        }
        EXPECT_TRUE(refused || wrong > 0) << c.name << ": " << rules[i].ours << ", change " << change;
      }
  }
}

TEST(Original, EightBitsStayEightBitsAndStandForTheirScale) {
  const Component& c = components()[0];
  const auto expected = c.tensors("widened");
  const Weights w(open_file(c.path("scaled"), c.names()), Target{});
  int matrices = 0;
  std::map<std::string, Linear> linears;
  std::map<std::string, at::Tensor> plain;
  for (const auto& [key, tensor] : expected) {
    const std::string name = key.substr(0, key.rfind('.'));
    if (tensor.dim() == 2)
      linears[key] = w.linear(name, tensor.size(0), tensor.size(1));
    else if (!expected.contains(name + ".weight") || expected.at(name + ".weight").dim() != 2)
      plain[key] = w.tensor(key, tensor.sizes());
  }
  w.require_all_read();
  for (const auto& [key, linear] : linears) {
    EXPECT_EQ(linear.weight.scalar_type(), at::kFloat8_e4m3fn) << key;
    EXPECT_TRUE(at::equal(linear.matrix(at::kFloat), expected.at(key))) << key;
    ++matrices;
  }
  EXPECT_GT(matrices, 50);
  for (const auto& [key, tensor] : plain) EXPECT_TRUE(at::equal(tensor, expected.at(key))) << key;
}

TEST(Original, EightBitsStackedAndWidenedWhereAsked) {
  const Component& c = components()[0];
  const auto expected = c.tensors("widened");
  const Weights w(open_file(c.path("scaled"), c.names()), Target{});
  const Weights block = w / "single_transformer_blocks" / int64_t(1) / "attn";
  const std::vector<std::string_view> names = {"to_q", "to_k", "to_v"};
  const at::Tensor& q = expected.at("single_transformer_blocks.1.attn.to_q.weight");
  const std::vector<int64_t> outs(3, q.size(0));
  const Linear stacked = block.stacked(names, outs, q.size(1));
  const at::Tensor wide = (block / "to_k").tensor("weight", q.sizes(), at::kFloat);
  EXPECT_THROW(w.require_all_read(), Error);  // the rest was not asked for; all that was is there
  std::vector<at::Tensor> rows;
  for (const auto& name : names)
    rows.push_back(expected.at("single_transformer_blocks.1.attn." + std::string(name) + ".weight"));
  EXPECT_EQ(stacked.weight.scalar_type(), at::kFloat8_e4m3fn);
  EXPECT_TRUE(at::equal(stacked.matrix(at::kFloat), at::cat(rows)));
  EXPECT_TRUE(at::equal(wide, rows[1]));
}

TEST(Original, WhatNoRuleKnowsIsNamed) {
  const Component& c = components()[0];
  const auto stored = c.tensors("theirs");
  std::map<std::string, at::Tensor> more = stored;
  more["double_blocks.0.img_attn.other.weight"] = at::ones({2});
  const fs::path path = fs::temp_directory_path() / "sagelab_original_test.safetensors";
  write_safetensors(path, more);
  const auto expected = c.tensors("ours");
  const Weights w(open_file(path, c.names()), Target{});
  for (const auto& [key, tensor] : expected) w.tensor(key, tensor.sizes());
  try {
    w.require_all_read();
    ADD_FAILURE() << "the tensor that nobody knows was not named";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("double_blocks.0.img_attn.other.weight"), std::string::npos)
        << e.what();
  }
  fs::remove(path);
}

// The number of layers decides which norm of the text has its halves the other way round.
TEST(Original, AnotherNumberOfLayersIsAnotherModel) {
  const Component& c = components()[1];
  const auto expected = c.tensors("ours");
  for (const int64_t layers : {2, 4}) {
    int wrong = 0;
    bool refused = false;
    try {
      read_all(c, "theirs", sd3::original_names(layers), expected, wrong);
    } catch (const Error&) {
      refused = true;
    }
    EXPECT_TRUE(refused || wrong > 0) << layers;
  }
  EXPECT_EQ(&sd3::original_names(3), &sd3::original_names(3));
}

TEST(Renamed, NumbersAndEndings) {
  EXPECT_EQ(renamed("a.12.q.weight", "a.*.q.", "b.*.x."), "b.12.x.weight");
  EXPECT_EQ(renamed("a.12.q.weight", "a.*.q.weight", "b.*.scale"), "b.12.scale");
  EXPECT_EQ(renamed("a.12.qq.weight", "a.*.q.", "b.*.x."), "");
  EXPECT_EQ(renamed("a.x.q.weight", "a.*.q.", "b.*.x."), "");
  EXPECT_EQ(renamed("a.", "a.*", "b.*"), "");
  EXPECT_EQ(renamed("a.weight.more", "a.weight", "b"), "");
}

}  // namespace
}  // namespace sagelab
