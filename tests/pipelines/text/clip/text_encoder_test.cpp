// SPDX-License-Identifier: Apache-2.0
// CLIP's text towers against transformers: every layer, the pooled and projected state, half precision, and
// what each mistake would cost.
#include "pipelines/text/clip/text_encoder.h"

#include <gmock/gmock.h>

#include <functional>
#include <memory>
#include <numeric>

#include "attention/error.h"
#include "tests/support/parity.h"

namespace sagelab {
namespace {

namespace fs = std::filesystem;
using Projection = ClipTextEncoder::Projection;
using testing::Dump;
using testing::relative_l2;

constexpr double kBound = 2e-6;

struct Loaded {
  Dump dump;
  ClipTextConfig config;
  std::unique_ptr<ClipTextEncoder> encoder;

  Loaded(const std::string& name, at::ScalarType dtype)
      : dump(folder(name) / "dump.safetensors"), config(read(folder(name) / "model/config.json")) {
    const Weights w(open_folder(folder(name) / "model", "model"), {at::kCPU, dtype});
    encoder = std::make_unique<ClipTextEncoder>(w, config,
                                                dump.has("embeds") ? Projection::Text : Projection::None);
    w.require_all_read(encoder->ignored());
  }
  // hidden_states[i] of transformers: the embeddings, then the layers.
  std::string hidden(int64_t i) const { return i == 0 ? "embeddings" : "layer." + std::to_string(i - 1); }
  static fs::path folder(const std::string& name) { return testing::fixture("clip_text", name); }
  static ClipTextConfig read(const fs::path& file) {
    Config config(file);
    return ClipTextConfig(config);
  }
};

// Our result by the name of the oracle's stage.
at::Tensor stage(const ClipText& text, const std::string& name) {
  if (name == "hidden") return text.hidden;
  if (name == "last_hidden") return text.last_hidden;
  return name == "pooled" ? text.pooled : text.embeds;
}

class ClipParity : public ::testing::TestWithParam<std::string> {};

TEST_P(ClipParity, EveryLayerInSinglePrecision) {
  const Loaded clip(GetParam(), at::kFloat);
  int64_t seen = 0;
  const ClipText text =
      (*clip.encoder)(clip.dump["ids"], 0, [&](const std::string& name, const at::Tensor& value) {
        EXPECT_EQ(name, clip.hidden(seen++));
        EXPECT_TRUE(testing::matches(value, clip.dump, name, kBound));
      });
  EXPECT_EQ(seen, clip.config.num_layers + 1);
  EXPECT_FALSE(clip.dump.has(clip.hidden(seen))) << "layers are missing";
  EXPECT_TRUE(testing::matches(text.last_hidden, clip.dump, "last_hidden", kBound));
  EXPECT_TRUE(testing::matches(text.pooled, clip.dump, "pooled", kBound));
  EXPECT_EQ(text.embeds.defined(), clip.dump.has("embeds"));
  if (text.embeds.defined()) {
    EXPECT_TRUE(testing::matches(text.embeds, clip.dump, "embeds", kBound));
  }
}

TEST_P(ClipParity, HiddenIsTheOneThatClipSkipAsksFor) {
  const Loaded clip(GetParam(), at::kFloat);
  const int64_t layers = clip.config.num_layers;
  for (int64_t skip = 0; skip < layers; ++skip) {
    const ClipText text = (*clip.encoder)(clip.dump["ids"], skip);
    EXPECT_TRUE(testing::matches(text.hidden, clip.dump, clip.hidden(layers - 1 - skip), kBound)) << skip;
    EXPECT_TRUE(testing::matches(text.pooled, clip.dump, "pooled", kBound)) << skip;
  }
  EXPECT_THROW((*clip.encoder)(clip.dump["ids"], layers), Error);
  EXPECT_THROW((*clip.encoder)(clip.dump["ids"], -1), Error);
}

// Of transformers' model with one thing wrong we must be further away than a right one may be.
TEST_P(ClipParity, EveryMutantIsFound) {
  const Loaded clip(GetParam(), at::kFloat);
  const ClipText text = (*clip.encoder)(clip.dump["ids"]);
  int mutants = 0;
  for (const auto& [key, value] : clip.dump.tensors()) {
    if (!key.starts_with("mutant.")) continue;
    ++mutants;
    const std::string name = key.substr(key.find('|') + 1);
    const std::string truth = name == "hidden" ? clip.hidden(clip.config.num_layers - 1) : name;
    EXPECT_GT(relative_l2(stage(text, name), value), 10 * testing::tolerance(clip.dump, truth, kBound))
        << key;
  }
  EXPECT_GE(mutants, 27);
}

// Rounding differs between two right implementations: held to transformers' own error, not to its bits.
TEST_P(ClipParity, HalfPrecisionIsNoWorseThanTransformers) {
  for (const auto& [label, dtype] : {std::pair{"fp16", at::kHalf}, {"bf16", at::kBFloat16}}) {
    const Loaded clip(GetParam(), dtype);
    const ClipText text = (*clip.encoder)(clip.dump["ids"]);
    for (const std::string name : {"last_hidden", "pooled", "embeds"}) {
      if (!clip.dump.has(name)) continue;
      const at::Tensor& theirs = clip.dump[std::string(label) + "." + name];
      const at::Tensor& exact = clip.dump[name + ".fp64"];
      const at::Tensor ours = stage(text, name);
      EXPECT_EQ(ours.scalar_type(), dtype) << label << " " << name;
      EXPECT_LE(relative_l2(ours, exact), 1.1 * relative_l2(theirs, exact)) << label << " " << name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, ClipParity, ::testing::Values("clip_l", "big_g", "odd_config", "bare"),
                         [](const auto& info) { return info.param; });

std::string message(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(ClipTextInput, IsRefusedByWhatIsWrongWithIt) {
  const Loaded clip("clip_l", at::kFloat);
  const auto encode = [&](const at::Tensor& ids) { return message([&] { (*clip.encoder)(ids); }); };
  EXPECT_EQ(encode(at::full({1, 5}, 95, at::kLong)), "accepted");
  EXPECT_EQ(encode(at::full({1, 5}, 96, at::kLong)),
            "token 96 is not in the text encoder's vocabulary of 96");
  EXPECT_EQ(encode(at::full({1, 5}, -1, at::kLong)),
            "token -1 is not in the text encoder's vocabulary of 96");
  EXPECT_EQ(message([&] { (*clip.encoder)(clip.dump["ids"], 3); }),
            "clip_skip = 3 with a text encoder of 3 layers");
  EXPECT_THROW((*clip.encoder)(at::zeros({1, 78}, at::kLong)), c10::Error);
  EXPECT_THROW((*clip.encoder)(at::zeros({5}, at::kLong)), c10::Error);
  EXPECT_THROW((*clip.encoder)(at::zeros({1, 5}, at::kInt)), c10::Error);
}

TEST(ClipTextFiles, MissingTensorsAreNamed) {
  const fs::path folder = Loaded::folder("clip_l") / "model";
  const ClipTextConfig config = Loaded::read(folder / "config.json");
  const Weights w(open_folder(folder, "model"), {at::kCPU, at::kFloat});
  EXPECT_THAT(message([&] { ClipTextEncoder(w, config, Projection::Text); }),
              ::testing::HasSubstr("text_projection.weight"));
  ClipTextConfig wider = config;
  wider.hidden_size = 51;
  EXPECT_THAT(message([&] { ClipTextEncoder(w, wider, Projection::None); }),
              ::testing::HasSubstr("embeddings.token_embedding.weight"));
  EXPECT_THAT(message([] { Loaded::read("/no/such/config.json"); }),
              ::testing::HasSubstr("/no/such/config.json"));
}

// A file of a model with projection serves one without, as in transformers.
TEST(ClipTextFiles, AnUnusedProjectionIsNoFault) {
  const Loaded projected("big_g", at::kFloat);
  const Weights w(open_folder(Loaded::folder("big_g") / "model", "model"), {at::kCPU, at::kFloat});
  const ClipTextEncoder encoder(w, projected.config, Projection::None);
  w.require_all_read(encoder.ignored());
  const ClipText text = encoder(projected.dump["ids"]);
  EXPECT_FALSE(text.embeds.defined());
  EXPECT_TRUE(testing::matches(text.pooled, projected.dump, "pooled", kBound));
}

std::string refusal(const nlohmann::json& values) {
  Config config(values, "config.json");
  return message([&] { ClipTextConfig clip(config); });
}

TEST(ClipTextConfigTest, RefusesByName) {
  EXPECT_EQ(
      refusal({{"hidden_size", 768}, {"num_attention_heads", 12}, {"bos_token_id", 0}, {"dropout", 0.0}}),
      "accepted");
  EXPECT_EQ(refusal({{"num_hidden_layers", 0}}), "config.json: num_hidden_layers = 0 should be at least 1");
  EXPECT_EQ(refusal({{"hidden_size", 50}}),
            "config.json: hidden_size = 50 is no multiple of num_attention_heads = 8");
  EXPECT_EQ(refusal({{"hidden_act", "tanh"}}), "config.json: hidden_act = \"tanh\" is not supported");
  EXPECT_EQ(refusal({{"eos_token_id", -1}}), "config.json: eos_token_id = -1 should be at least 0");
  EXPECT_EQ(refusal({{"model_type", "clip"}}),
            "config.json: model_type = \"clip\" is not supported (only \"clip_text_model\")");
  EXPECT_THAT(refusal({{"eos_token_id", {1, 2}}}), ::testing::HasSubstr("eos_token_id"));
  EXPECT_THAT(refusal({{"hiden_size", 8}}), ::testing::HasSubstr("hiden_size"));
}

int64_t parameters(const nlohmann::json& values, Projection projection, bool prefixed) {
  Config config(values, "config.json");
  const auto has = [=](std::string_view key) {
    return key.starts_with("text_model.") == prefixed || key.starts_with("text_projection.");
  };
  const Weights w(shape_source(has), {at::kMeta, at::kBFloat16});
  const ClipTextEncoder encoder(w, ClipTextConfig(config), projection);
  int64_t sum = 0;
  for (const auto& [key, shape] : w.requested()) {
    EXPECT_EQ(key.starts_with("text_model."), prefixed && !key.starts_with("text_projection.")) << key;
    sum += std::accumulate(shape.begin(), shape.end(), int64_t(1), std::multiplies<>());
  }
  return sum;
}

TEST(ClipTextNames, AreThoseOfTheReleasedCheckpoints) {
  const nlohmann::json l = {{"hidden_size", 768},
                            {"intermediate_size", 3072},
                            {"num_attention_heads", 12},
                            {"projection_dim", 768}};
  const nlohmann::json g = {{"hidden_size", 1280},       {"intermediate_size", 5120},
                            {"num_attention_heads", 20}, {"num_hidden_layers", 32},
                            {"projection_dim", 1280},    {"hidden_act", "gelu"}};
  for (const bool prefixed : {true, false}) {
    EXPECT_EQ(parameters(l, Projection::None, prefixed), 123060480);
    EXPECT_EQ(parameters(l, Projection::Text, prefixed), 123060480 + 589824);
    EXPECT_EQ(parameters(g, Projection::Text, prefixed), 694659840);
  }
}

}  // namespace
}  // namespace sagelab
