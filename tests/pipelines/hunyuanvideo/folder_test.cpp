// SPDX-License-Identifier: Apache-2.0
// Folders that are not quite as diffusers saved them: taken, or refused with what is wrong.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "pipelines/core/safetensors.h"
#include "tests/pipelines/hunyuanvideo/pipeline_fixture.h"

namespace sagelab::hunyuanvideo {
namespace {

using ::testing::HasSubstr;

// A copy of a fixture's folder, of which one file is changed.
class ChangedFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_.parent_path());
    std::filesystem::copy(kPipelines.folder("clip") / "model", folder_,
                          std::filesystem::copy_options::recursive);
    request_.model = folder_.string();
  }
  std::string said_with(const char* file, const std::function<void(nlohmann::json&)>& change) {
    const nlohmann::json kept = read_json(folder_ / file);
    nlohmann::json changed = kept;
    change(changed);
    std::ofstream(folder_ / file) << changed;
    const std::string said = testing::refusal(kPipelines.family(), request_);
    std::ofstream(folder_ / file) << kept;
    return said;
  }

  // What planning a run of it says; empty: nothing is wrong.
  std::string said_of_plan() const {
    try {
      kPipelines.family().plan(kPipelines.family().resolve(request_));
    } catch (const Error& e) {
      return e.what();
    }
    return {};
  }

  std::filesystem::path folder_ = std::filesystem::path(::testing::TempDir()) / "hunyuanvideo" / "model";
  Request request_ = kPipelines.request("clip", "plain");
};

TEST_F(ChangedFolder, TakesTheTokenizersReleasedClass) {
  EXPECT_EQ(said_with("model_index.json",
                      [](auto& json) {
                        json["tokenizer"] = {"transformers", "LlamaTokenizerFast"};
                      }),
            "");
  EXPECT_THAT(said_with("model_index.json",
                        [](auto& json) {
                          json["text_encoder"] = {"transformers", "T5EncoderModel"};
                        }),
              HasSubstr("text_encoder is T5EncoderModel, not LlamaModel"));
}

TEST_F(ChangedFolder, RefusesConfigsThatDoNotFit) {
  const auto set = [](const char* key, const nlohmann::json& value) {
    return [=](nlohmann::json& json) { json[key] = value; };
  };
  EXPECT_THAT(said_with("transformer/config.json", set("patch_size_t", 2)),
              HasSubstr("transformer patch_size_t = 2 does not fit the pipeline's = 1"));
  EXPECT_THAT(said_with("transformer/config.json", set("text_embed_dim", 52)), HasSubstr("text_embed_dim"));
  EXPECT_THAT(said_with("transformer/config.json", set("pooled_projection_dim", 25)),
              HasSubstr("pooled_projection_dim"));
  EXPECT_THAT(said_with("vae/config.json", set("latent_channels", 7)), HasSubstr("latent_channels = 7"));
  EXPECT_THAT(said_with("transformer/config.json", set("image_condition_type", "latent_concat")),
              HasSubstr("image_condition_type"));
}

// As a language model's file has them: below `model.`, with a head. What a part would have to read is
// refused.
TEST_F(ChangedFolder, LlamaMayBeTheBodyOfALanguageModel) {
  const Request own = kPipelines.resolved("clip", "plain"), other = kPipelines.family().resolve(request_);
  const auto rows = [](const Request& request) {
    const c10::InferenceMode inference;
    testing::OneRun run;
    return kPipelines.family().open(request, run.context)->encode(request, run.context).embeds;
  };
  const std::filesystem::path file = folder_ / "text_encoder" / "model.safetensors";
  std::map<std::string, at::Tensor> tensors;
  const testing::Dump stored(file);
  for (const auto& [key, value] : stored.tensors()) tensors["model." + key] = value;
  tensors["lm_head.weight"] = at::ones({4, 4});
  write_safetensors(file, tensors);
  EXPECT_EQ(said_of_plan(), "");
  EXPECT_TRUE(at::equal(rows(other), rows(own)));
  tensors["model.layers.0.self_attn.q_proj.bias"] = at::ones({48});
  write_safetensors(file, tensors);
  EXPECT_THAT(said_of_plan(),
              HasSubstr("1 tensor is no part of this model: model.layers.0.self_attn.q_proj.bias"));
}

TEST_F(ChangedFolder, SaysHowManyTokensAClipOfFewerPositionsReads) {
  const std::filesystem::path part = folder_ / "text_encoder_2";
  nlohmann::json config = read_json(part / "config.json");
  config["max_position_embeddings"] = 20;
  std::ofstream(part / "config.json") << config;
  std::map<std::string, at::Tensor> tensors;
  const testing::Dump stored(part / "model.safetensors");
  for (const auto& [key, value] : stored.tensors())
    tensors[key] = key.ends_with("position_embedding.weight") ? value.narrow(0, 0, 20).clone() : value;
  write_safetensors(part / "model.safetensors", tensors);
  request_.prompt = kPipelines.request("cut", "plain").prompt;
  EXPECT_THAT(testing::notices_of_encoding(kPipelines.family(), kPipelines.family().resolve(request_)),
              ::testing::Contains("CLIP reads the prompt up to its 20th token"));
}

// The template has fewer tokens than are dropped.
TEST_F(ChangedFolder, RefusesATokenizerOfAnotherModel) {
  const std::filesystem::path file = folder_ / "tokenizer" / "tokenizer.json";
  nlohmann::json json = read_json(file);
  nlohmann::json token = json["added_tokens"].back();
  token["content"] = " The main content and theme of the video.";
  token["id"] = token["id"].get<int>() + 1;
  json["added_tokens"].push_back(token);
  std::ofstream(file) << json;
  request_.prompt = "";
  EXPECT_THAT(said_of_plan(), HasSubstr("a prompt in its template has 88 tokens, and 95 of them should be"));
}

}  // namespace
}  // namespace sagelab::hunyuanvideo
