// SPDX-License-Identifier: Apache-2.0
// Llama as a text encoder against transformers on padded texts: every hidden state, half precision, and what
// each mistake would cost.
#include "pipelines/text/llama/text_encoder.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>

#include "attention/error.h"
#include "tests/support/parity.h"

namespace sagelab {
namespace {

namespace fs = std::filesystem;
using testing::Dump;
using testing::relative_l2;

constexpr double kBound = 2e-6;

std::string hidden(int64_t i) {
  return "hidden." + std::to_string(i);
}

struct Loaded {
  Dump dump;
  LlamaConfig config;
  std::unique_ptr<LlamaEncoder> encoder;

  Loaded(const std::string& name, at::ScalarType dtype, int64_t skip_layers = 0)
      : dump(folder(name) / "dump.safetensors"), config(read(folder(name) / "model/config.json")) {
    const Weights w(open_folder(folder(name) / "model", "model"), {at::kCPU, dtype});
    encoder = std::make_unique<LlamaEncoder>(w, config, skip_layers);
    w.require_all_read(encoder->ignored());
  }
  // Every text alone, cut to its length; the rows one behind the other. states gets those of each layer.
  at::Tensor run(std::vector<at::Tensor>* states = nullptr) const {
    std::vector<at::Tensor> texts;
    std::vector<std::vector<at::Tensor>> parts(size_t(config.num_layers) + 1);
    for (int64_t row = 0; row < dump["ids"].size(0); ++row) {
      const auto length = dump["lengths"][row].item<int64_t>();
      size_t seen = 0;
      texts.push_back((*encoder)(dump["ids"].narrow(0, row, 1).narrow(1, 0, length),
                                 [&](const std::string& name, const at::Tensor& value) {
                                   EXPECT_EQ(name,
                                             seen == 0 ? "embeddings" : "layer." + std::to_string(seen - 1));
                                   parts.at(seen++).push_back(value[0]);
                                 })[0]);
    }
    if (states)
      for (const auto& part : parts)
        if (!part.empty()) states->push_back(at::cat(part));
    return at::cat(texts);
  }
  static fs::path folder(const std::string& name) { return testing::fixture("llama_text", name); }
  static LlamaConfig read(const fs::path& file) {
    Config config(file);
    return LlamaConfig(config);
  }
};

class LlamaParity : public ::testing::TestWithParam<std::string> {};

TEST_P(LlamaParity, EveryHiddenStateInSinglePrecision) {
  const Loaded llama(GetParam(), at::kFloat);
  const int64_t layers = llama.config.num_layers;
  EXPECT_GE(layers, 4);
  std::vector<at::Tensor> states;
  const at::Tensor last = llama.run(&states);
  ASSERT_EQ(int64_t(states.size()), layers + 1);
  for (int64_t i = 0; i < layers; ++i)
    EXPECT_TRUE(testing::matches_within(states[size_t(i)], llama.dump, hidden(i), kBound));
  EXPECT_TRUE(testing::matches_within(last, llama.dump, hidden(layers), kBound));
  EXPECT_FALSE(llama.dump.has(hidden(layers + 1))) << "layers are missing";
}

// The encoder that has no more layers than it needs gives hidden_states[-(skip + 1)].
TEST_P(LlamaParity, LayersAreLeftOut) {
  const int64_t layers = Loaded(GetParam(), at::kFloat).config.num_layers;
  for (int64_t skip = 1; skip <= layers; ++skip) {
    const Loaded llama(GetParam(), at::kFloat, skip);
    EXPECT_TRUE(testing::matches_within(llama.run(), llama.dump, hidden(layers - skip), kBound)) << skip;
  }
  EXPECT_THROW(Loaded(GetParam(), at::kFloat, layers + 1), Error);
  EXPECT_THROW(Loaded(GetParam(), at::kFloat, -1), Error);
}

// Of transformers' model with one thing wrong we must be further away than a right one may be.
TEST_P(LlamaParity, EveryMutantIsFound) {
  const Loaded whole(GetParam(), at::kFloat), cut(GetParam(), at::kFloat, 2);
  const int64_t layers = whole.config.num_layers;
  const std::map<std::string, at::Tensor> ours = {{hidden(layers), whole.run()},
                                                  {hidden(layers - 2), cut.run()}};
  int mutants = 0;
  for (const auto& [key, value] : whole.dump.tensors()) {
    if (!key.starts_with("mutant.")) continue;
    ++mutants;
    const std::string stage = key.substr(key.find('|') + 1);
    EXPECT_GT(relative_l2(ours.at(stage), value), 10 * kBound) << key;
  }
  EXPECT_GE(mutants, GetParam() == "grouped" ? 24 : 23);
}

// Rounding differs between two right implementations: held to transformers' own error, not to its bits.
TEST_P(LlamaParity, HalfPrecisionIsNoWorseThanTransformers) {
  for (const auto& [label, dtype] : {std::pair{"fp16", at::kHalf}, {"bf16", at::kBFloat16}}) {
    const Loaded llama(GetParam(), dtype);
    std::vector<at::Tensor> states;
    const at::Tensor last = llama.run(&states);
    states.back() = last;  // after the norm
    for (size_t i = 0; i < states.size(); ++i) {
      const std::string name = hidden(int64_t(i));
      const at::Tensor& exact = llama.dump[name + ".fp64"];
      const double theirs = relative_l2(llama.dump[std::string(label) + "." + name], exact);
      EXPECT_EQ(states[i].scalar_type(), dtype) << label << " " << name;
      EXPECT_LE(relative_l2(states[i], exact), 1.1 * theirs) << label << " " << name;
    }
  }
}

// Where things are rounded: we are nearer to transformers' own run in bf16 than to one that rounds elsewhere.
TEST_P(LlamaParity, RoundsWhereTransformersDoes) {
  const Loaded llama(GetParam(), at::kBFloat16);
  // Behind one layer: further on, roundings of any kind add up.
  at::Tensor ours;
  (*llama.encoder)(llama.dump["ids"].narrow(0, 0, 1), [&](const std::string& name, const at::Tensor& value) {
    if (name == "layer.0") ours = value[0];
  });
  int mutants = 0;
  for (const auto& [key, value] : llama.dump.tensors()) {
    if (!key.starts_with("bf16.mutant.")) continue;
    ++mutants;
    const double right = relative_l2(ours, llama.dump["bf16.alone." + key.substr(key.find('|') + 1)]);
    EXPECT_LT(2 * right, relative_l2(ours, value)) << key << ": transformers' own is " << right << " away";
  }
  EXPECT_EQ(mutants, 3);
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, LlamaParity, ::testing::Values("grouped", "old", "single_key"),
                         [](const auto& info) { return info.param; });

std::string message(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(LlamaTextInput, IsRefusedByWhatIsWrongWithIt) {
  const Loaded llama("grouped", at::kFloat);
  const auto encode = [&](const at::Tensor& ids) { return message([&] { (*llama.encoder)(ids); }); };
  EXPECT_EQ(encode(at::full({1, 5}, 100, at::kLong)), "accepted");
  EXPECT_EQ(encode(at::full({1, 5}, 101, at::kLong)),
            "token 101 is not in the text encoder's vocabulary of 101");
  EXPECT_EQ(encode(at::full({1, 5}, -1, at::kLong)),
            "token -1 is not in the text encoder's vocabulary of 101");
  EXPECT_THROW((*llama.encoder)(at::zeros({5}, at::kLong)), c10::Error);
  EXPECT_THROW((*llama.encoder)(at::zeros({1, 0}, at::kLong)), c10::Error);
  EXPECT_THROW((*llama.encoder)(at::zeros({1, 5}, at::kInt)), c10::Error);
}

std::string refusal(const nlohmann::json& values) {
  Config config(values, "config.json");
  return message([&] { LlamaConfig llama(config); });
}

TEST(LlamaConfigTest, RefusesByName) {
  EXPECT_EQ(refusal({{"hidden_size", 64}, {"num_attention_heads", 4}, {"rope_scaling", nullptr}}),
            "accepted");
  EXPECT_EQ(refusal({{"rope_parameters", {{"rope_theta", 5e5}, {"rope_type", "default"}}}}), "accepted");
  EXPECT_EQ(refusal({{"rope_parameters", {{"rope_type", "llama3"}, {"factor", 8}}}}),
            "config.json: rope_parameters.rope_type = \"llama3\" is not supported (only \"default\")");
  EXPECT_EQ(refusal({{"rope_parameters", {{"rope_type", "default"}, {"factor", 8}}}}),
            "config.json: unknown key rope_parameters.factor = 8");
  EXPECT_EQ(refusal({{"rope_parameters", 8}}), "config.json: rope_parameters = 8 should be an object");
  EXPECT_EQ(refusal({{"rope_scaling", {{"type", "linear"}, {"factor", 2}}}}),
            "config.json: rope_scaling.type = \"linear\" is not supported (only \"default\")");
  EXPECT_EQ(refusal({{"hidden_size", 50}, {"num_attention_heads", 8}}),
            "config.json: hidden_size = 50 is no multiple of num_attention_heads = 8");
  EXPECT_EQ(refusal({{"num_key_value_heads", 5}}),
            "config.json: num_attention_heads = 32 is no multiple of num_key_value_heads = 5");
  EXPECT_EQ(refusal({{"head_dim", 7}}), "config.json: head_dim = 7 cannot be rotated in halves");
  EXPECT_EQ(refusal({{"hidden_act", "tanh"}}), "config.json: hidden_act = \"tanh\" is not supported");
  EXPECT_EQ(refusal({{"attention_bias", true}}),
            "config.json: attention_bias = true is not supported (only false)");
  EXPECT_EQ(refusal({{"model_type", "mistral"}}),
            "config.json: model_type = \"mistral\" is not supported (only \"llama\")");
  EXPECT_EQ(refusal({{"quantization_config", {{"bits", 4}}}}),
            "config.json: unknown key quantization_config = {\"bits\":4}");
}

TEST(LlamaConfigTest, ReadsTheBaseUnderBothNames) {
  const auto theta = [](const nlohmann::json& values) {
    Config config(values, "config.json");
    return LlamaConfig(config).rope_theta;
  };
  EXPECT_EQ(theta(nlohmann::json::object()), 10000);
  EXPECT_EQ(theta({{"rope_theta", 777}}), 777);
  EXPECT_EQ(theta({{"rope_parameters", {{"rope_theta", 5e5}, {"rope_type", "default"}}}}), 5e5);
  EXPECT_EQ(theta({{"rope_theta", 777}, {"rope_parameters", {{"rope_type", "default"}}}}), 777);
}

// What is read with all layers is what transformers has; with two left out, all but theirs and the norm.
TEST(LlamaNames, AreThoseOfTheReleasedModel) {
  const nlohmann::json released = read_json(fs::path(SAGELAB_FIXTURES) / "llama_text/names.json");
  for (const int64_t skip : {0, 2}) {
    Config config(released["config"], "config.json");
    const Weights w(shape_source([](std::string_view key) { return !key.starts_with("model."); }),
                    {at::kMeta, at::kBFloat16});
    const LlamaEncoder encoder(w, LlamaConfig(config), skip);
    nlohmann::json ours = nlohmann::json::object(), theirs = nlohmann::json::object();
    for (const auto& [key, shape] : w.requested()) ours[key] = shape;
    int64_t parameters = 0;
    for (const auto& [key, shape] : released["names"].items()) {
      const bool ignored =
          std::any_of(encoder.ignored().begin(), encoder.ignored().end(),
                      [key = key](std::string_view prefix) { return key.starts_with(prefix); });
      if (ignored) continue;
      theirs[key] = shape;
      int64_t n = 1;
      for (const auto& size : shape) n *= size.get<int64_t>();
      parameters += n;
    }
    EXPECT_EQ(ours, theirs) << skip;
    EXPECT_EQ(parameters, skip == 0 ? 7505186816 : 7068958720) << skip;
  }
}

}  // namespace
}  // namespace sagelab
