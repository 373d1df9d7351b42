// SPDX-License-Identifier: Apache-2.0
// The T5 encoder against transformers: every block, masks, half precision, and what each mistake would cost.
#include "pipelines/text/t5.h"

#include <gmock/gmock.h>

#include <array>
#include <memory>

#include "attention/error.h"
#include "tests/support/parity.h"

namespace sagelab {
namespace {

namespace fs = std::filesystem;
using testing::Dump;
using testing::relative_l2;

constexpr double kBound = 2e-6;

struct Loaded {
  Dump dump;
  std::unique_ptr<T5Encoder> encoder;

  Loaded(const std::string& name, at::ScalarType dtype) : dump(folder(name) / "dump.safetensors") {
    Config config(folder(name) / "model/config.json");
    const Weights w(open_folder(folder(name) / "model", "model"), {at::kCPU, dtype});
    encoder = std::make_unique<T5Encoder>(w, T5Config(config));
    static constexpr std::array<std::string_view, 1> kTied = {"encoder.embed_tokens."};
    w.require_all_read(kTied);
  }
  static fs::path folder(const std::string& name) { return testing::fixture("t5", name); }
};

class T5Parity : public ::testing::TestWithParam<std::string> {};

TEST_P(T5Parity, EveryBlockInSinglePrecision) {
  const Loaded t5(GetParam(), at::kFloat);
  int blocks = 0;
  const at::Tensor out =
      (*t5.encoder)(t5.dump["ids"], {}, [&](const std::string& name, const at::Tensor& value) {
        EXPECT_EQ(name, "block." + std::to_string(blocks++));
        EXPECT_TRUE(testing::matches(value, t5.dump, name, kBound));
      });
  EXPECT_FALSE(t5.dump.has("block." + std::to_string(blocks))) << "blocks are missing";
  EXPECT_TRUE(testing::matches(out, t5.dump, "output", kBound));
}

// The second row of the mask allows no key at all.
TEST_P(T5Parity, MaskedKeysDoNotCount) {
  const Loaded t5(GetParam(), at::kFloat);
  const at::Tensor out = (*t5.encoder)(t5.dump["ids"], t5.dump["mask"]);
  EXPECT_TRUE(testing::matches(out, t5.dump, "masked.output", kBound));
  EXPECT_GT(relative_l2(out, t5.dump["output"]), 1e-3);
}

// Of transformers' model with one thing wrong we must be further away than a right one may be.
TEST_P(T5Parity, EveryMutantIsFound) {
  const Loaded t5(GetParam(), at::kFloat);
  const at::Tensor out = (*t5.encoder)(t5.dump["ids"]);
  int mutants = 0;
  for (const auto& [key, value] : t5.dump.tensors()) {
    if (!key.starts_with("mutant.")) continue;
    ++mutants;
    EXPECT_GT(relative_l2(out, value), 10 * testing::tolerance(t5.dump, "output", kBound)) << key;
  }
  EXPECT_GE(mutants, GetParam() == "plain" ? 13 : 14);
}

// Rounding differs between two right implementations: held to transformers' own error, not to its bits.
TEST_P(T5Parity, HalfPrecisionIsNoWorseThanTransformers) {
  for (const auto& [label, dtype] : {std::pair{"fp16", at::kHalf}, {"bf16", at::kBFloat16}}) {
    const Loaded t5(GetParam(), dtype);
    const auto hold = [&, label = std::string(label)](const std::string& name, const at::Tensor& ours) {
      const at::Tensor& theirs = t5.dump[label + "." + name];
      const at::Tensor& exact = t5.dump[name + ".fp64"];
      EXPECT_EQ(ours.scalar_type(), theirs.scalar_type()) << label << " " << name;
      EXPECT_LE(relative_l2(ours, exact), 1.1 * relative_l2(theirs, exact)) << label << " " << name;
    };
    hold("output", (*t5.encoder)(t5.dump["ids"], {}, hold));
  }
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, T5Parity, ::testing::Values("gated", "plain", "silu"),
                         [](const auto& info) { return info.param; });

TEST(T5Half, OverflowIsClampedAsTransformersDoes) {
  const Loaded t5("overflow", at::kHalf);
  const at::Tensor out =
      (*t5.encoder)(t5.dump["ids"], {}, [&](const std::string& name, const at::Tensor& value) {
        EXPECT_LE(relative_l2(value, t5.dump["fp16." + name]), 1e-3) << name;
      });
  EXPECT_LE(relative_l2(out, t5.dump["fp16.output"]), 1e-2);
  // Infinite before the clamp, which then leaves room for what follows.
  const double largest = t5.dump["fp16.block.0"].abs().max().item<double>();
  EXPECT_GT(largest, 64000);
  EXPECT_LT(largest, 65000);
}

std::string refusal(const nlohmann::json& values) {
  Config config(values, "config.json");
  try {
    T5Config t5(config);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(T5ConfigTest, RefusesByName) {
  EXPECT_EQ(refusal({{"d_model", 8}}), "accepted");
  EXPECT_EQ(refusal({{"d_kv", 0}}), "config.json: d_kv = 0 should be at least 1");
  EXPECT_EQ(refusal({{"relative_attention_num_buckets", 2}}),
            "config.json: relative_attention_num_buckets = 2 should be at least 4");
  EXPECT_EQ(refusal({{"relative_attention_max_distance", 8}}),
            "config.json: relative_attention_max_distance = 8 should be at least 9");
  EXPECT_EQ(refusal({{"feed_forward_proj", "gated-swish-x"}}),
            "config.json: feed_forward_proj = \"gated-swish-x\" is not supported");
  EXPECT_EQ(refusal({{"is_decoder", true}}), "config.json: is_decoder = true is not supported (only false)");
  EXPECT_EQ(refusal({{"model_type", "umt5"}}),
            "config.json: model_type = \"umt5\" is not supported (only \"t5\")");
  EXPECT_THAT(refusal({{"d_modle", 8}}), ::testing::HasSubstr("d_modle"));
}

TEST(T5Names, AreThoseOfTheReleasedCheckpoints) {
  Config config(nlohmann::json{{"d_model", 4096},
                               {"d_ff", 10240},
                               {"d_kv", 64},
                               {"num_heads", 64},
                               {"num_layers", 24},
                               {"vocab_size", 32128},
                               {"feed_forward_proj", "gated-gelu"}},
                "config.json");
  const Weights w(shape_source([](std::string_view key) { return key != "encoder.embed_tokens.weight"; }),
                  {at::kMeta, at::kBFloat16});
  const T5Encoder encoder(w, T5Config(config));
  int64_t parameters = 0;
  for (const auto& [key, shape] : w.requested()) {
    int64_t n = 1;
    for (const int64_t size : shape) n *= size;
    parameters += n;
  }
  EXPECT_EQ(w.requested().size(), 24u * 9 + 3);
  EXPECT_EQ(parameters, 4762310656);
}

}  // namespace
}  // namespace sagelab
