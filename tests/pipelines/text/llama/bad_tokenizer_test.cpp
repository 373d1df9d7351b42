// SPDX-License-Identifier: Apache-2.0
// Damaged and foreign Llama tokenizer files: one sagelab::Error that names the file and the fault, never a
// crash.
#include <gmock/gmock.h>

#include <sstream>

#include "pipelines/core/config.h"
#include "pipelines/text/bpe/bpe.h"
#include "pipelines/text/llama/tokenizer.h"
#include "tests/support/tokenizers.h"

namespace sagelab {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::StartsWith;

const fs::path kGoodRoot = fs::path(SAGELAB_FIXTURES) / "llama_tokenizers";

class BadLlamaFolder : public testing::TokenizerFolder {
 protected:
  BadLlamaFolder() : TokenizerFolder(open_llama_tokenizer) {}

  void SetUp() override {
    TokenizerFolder::SetUp();
    write("tokenizer_config.json", R"({"pad_token": "<pad>"})");
  }
  // tokenizer.json with its vocabulary shortened to the bytes and one merge, and few added tokens.
  static const json& good() {
    static const json kGood = [] {
      json file = read_json(kGoodRoot / "released/tokenizer.json");
      json vocab = json::object();
      for (int byte = 0; byte < 256; ++byte) vocab[Bpe::symbol(uint8_t(byte))] = byte;
      vocab["so"] = 256;
      file["model"]["vocab"] = vocab;
      file["model"]["merges"] = json::array({json::array({"s", "o"})});
      const json tokens = file["added_tokens"];
      file["added_tokens"] = {tokens[0], tokens[9], tokens.back()};
      file["post_processor"]["processors"][1]["special_tokens"]["<|begin_of_text|>"]["ids"] = {257};
      return file;
    }();
    return kGood;
  }
  std::string changed(const std::function<void(json&)>& change) {
    json file = good();
    change(file);
    write("tokenizer.json", file.dump());
    return refusal();
  }
  std::string set(const char* pointer, json value) {
    return changed([&](json& file) { file[json::json_pointer(pointer)] = std::move(value); });
  }
  std::string config(const json& values) {
    write("tokenizer.json", good().dump());
    write("tokenizer_config.json", values.dump());
    return refusal();
  }
};

TEST_F(BadLlamaFolder, MissingAndDamagedFiles) {
  EXPECT_EQ(refusal(), folder_.string() + ": tokenizer.json is not there");
  write("tokenizer.json", "[]");
  EXPECT_EQ(refusal(), "tokenizer.json: should be a JSON object");
  const std::string whole = good().dump();
  write("tokenizer.json", whole.substr(0, whole.size() / 2));
  EXPECT_THAT(refusal(), StartsWith("tokenizer.json: not valid JSON: "));
  fs::remove_all(folder_);
  EXPECT_EQ(refusal(), folder_.string() + ": no such folder");
}

TEST_F(BadLlamaFolder, Models) {
  EXPECT_EQ(changed([](json&) {}), "accepted");
  const std::string file = "tokenizer.json: ";
  EXPECT_EQ(set("/model/type", "Unigram"), file + "model.type = \"Unigram\" is not supported (only \"BPE\")");
  EXPECT_EQ(set("/model/end_of_word_suffix", "</w>"),
            file + "model.end_of_word_suffix = \"</w>\" is not supported (only \"\")");
  EXPECT_EQ(set("/model/continuing_subword_prefix", "##"),
            file + "model.continuing_subword_prefix = \"##\" is not supported (only \"\")");
  EXPECT_EQ(set("/model/dropout", 0.1), file + "model.dropout = 0.1 is not supported (only null)");
  EXPECT_EQ(set("/model/byte_fallback", true),
            file + "model.byte_fallback = true is not supported (only false)");
  EXPECT_EQ(set("/model/ignore_merges", 1), file + "model.ignore_merges = 1 should be true or false");
  EXPECT_EQ(set("/model/ignore_merges", nullptr), "accepted");
  EXPECT_EQ(set("/model/vocab", 3), file + "model.vocab = 3 should be an object of ids by token");
  EXPECT_EQ(set("/model/vocab/so", "x"), file + "model.vocab: \"so\" has the id \"x\"");
  EXPECT_EQ(changed([](json& f) { f["model"]["vocab"].erase("\u0120"); }),
            file + "model.vocab has no symbol for the byte 0x20");
  EXPECT_EQ(set("/model/merges", 3), file + "model.merges = 3 should be a list of pairs");
  EXPECT_EQ(set("/model/merges/0", "s o"), "accepted");
  EXPECT_EQ(set("/model/merges/0", "so"),
            file + "model.merges[0] = \"so\" should be two symbols with a space between them");
  EXPECT_EQ(set("/model/merges/0", json::array({"s", "m"})),
            file + "merge 1 (\"s m\") needs \"sm\", which is not in the vocabulary");
}

TEST_F(BadLlamaFolder, Texts) {
  const std::string file = "tokenizer.json: ", steps = file + "pre_tokenizer.pretokenizers";
  EXPECT_EQ(set("/normalizer", {{"type", "NFC"}}),
            file + "normalizer = {\"type\":\"NFC\"} is not supported (only none)");
  EXPECT_EQ(set("/pre_tokenizer", {{"type", "Metaspace"}}),
            file +
                "pre_tokenizer = {\"type\":\"Metaspace\"} is not supported (only a Sequence of Split and "
                "ByteLevel)");
  EXPECT_THAT(set("/pre_tokenizer/pretokenizers/0/pattern/Regex", ".+"),
              StartsWith(steps + "[0].pattern = {\"Regex\":\".+\"} is not supported (only the expression "));
  EXPECT_EQ(set("/pre_tokenizer/pretokenizers/0/behavior", "Removed"),
            steps + "[0].behavior = \"Removed\" is not supported (only \"Isolated\")");
  EXPECT_EQ(set("/pre_tokenizer/pretokenizers/0/invert", true),
            steps + "[0].invert = true is not supported (only false)");
  EXPECT_EQ(set("/pre_tokenizer/pretokenizers/1/use_regex", true),
            steps + "[1].use_regex = true is not supported (only false)");
  EXPECT_EQ(set("/pre_tokenizer/pretokenizers/1/add_prefix_space", nullptr),
            steps + "[1].add_prefix_space = null is not supported (only false)");
  EXPECT_EQ(set("/padding", {{"direction", "Left"}}),
            file + "padding.direction = \"Left\" is not supported (only \"Right\")");
  EXPECT_EQ(set("/truncation", {{"direction", "Left"}}),
            file + "truncation.direction = \"Left\" is not supported (only \"Right\")");
}

TEST_F(BadLlamaFolder, AddedTokensAndTemplates) {
  EXPECT_THAT(set("/added_tokens/0", 5), StartsWith("tokenizer.json: added_tokens = 5 has no id"));
  const std::string file = "tokenizer.json: ";
  const auto other = HasSubstr("is not supported (only a template of the start token and the text)");
  EXPECT_THAT(set("/post_processor", nullptr), other);
  EXPECT_THAT(set("/post_processor", {{"type", "ByteLevel"}}), other);
  EXPECT_THAT(set("/post_processor/processors/0/type", "TemplateProcessing"), other);
  json single = good()["post_processor"]["processors"][1]["single"];
  const auto form = [&](const json& value) { return set("/post_processor/processors/1/single", value); };
  EXPECT_THAT(form({single[1], single[0]}), other);
  EXPECT_THAT(form({single[0], single[1], single[0]}), other);
  EXPECT_THAT(form({single[1]}), other);
  const char* ids = "/post_processor/processors/1/special_tokens/<|begin_of_text|>/ids";
  EXPECT_THAT(set(ids, {1, 2}), HasSubstr("has no id of <|begin_of_text|>"));
  EXPECT_EQ(set(ids, {5}),
            file + "post_processor has the id 5 for \"<|begin_of_text|>\", which is token 257");
  EXPECT_EQ(changed([](json& f) { f["added_tokens"].erase(0); }),
            file + "post_processor's token \"<|begin_of_text|>\" is not in the vocabulary");
  EXPECT_EQ(config({{"pad_token", "<pad>"}, {"bos_token", "<|eot_id|>"}}),
            file + "post_processor puts \"<|begin_of_text|>\" in front, and bos_token is \"<|eot_id|>\"");
}

TEST_F(BadLlamaFolder, SettingsThatAreNotSupported) {
  const std::string file = "tokenizer_config.json: ";
  const auto with = [&](json values) {
    values["pad_token"] = "<pad>";
    return config(values);
  };
  EXPECT_EQ(with({{"model_max_length", 1e30}, {"legacy", true}, {"use_default_system_prompt", false}}),
            "accepted");
  EXPECT_EQ(config(json::object()), file + "pad_token is missing");
  EXPECT_EQ(config({{"pad_token", nullptr}}),
            file + "pad_token = null is not supported: Llama's tokenizer has it");
  EXPECT_EQ(config({{"pad_token", "[PAD]"}}), "tokenizer.json: pad_token \"[PAD]\" is not in the vocabulary");
  EXPECT_EQ(with({{"tokenizer_class", "LlamaTokenizerFast"}, {"padding_side", "right"}}), "accepted");
  EXPECT_EQ(with({{"tokenizer_class", "LlamaTokenizerFast"}}),
            file + "padding_side is missing, and LlamaTokenizer's own is \"left\"");
  EXPECT_EQ(with({{"tokenizer_class", "PreTrainedTokenizerFast"}}), "accepted");
  EXPECT_EQ(with({{"tokenizer_class", "CLIPTokenizer"}}),
            file +
                "tokenizer_class = \"CLIPTokenizer\" is not supported (only PreTrainedTokenizerFast and "
                "LlamaTokenizerFast)");
  EXPECT_EQ(with({{"padding_side", "left"}}),
            file + "padding_side = \"left\" is not supported (only \"right\")");
  EXPECT_EQ(with({{"truncation_side", "left"}}),
            file + "truncation_side = \"left\" is not supported (only \"right\")");
  EXPECT_EQ(with({{"add_bos_token", false}}), file + "add_bos_token = false is not supported (only true)");
  EXPECT_EQ(with({{"add_eos_token", true}}), file + "add_eos_token = true is not supported (only false)");
  EXPECT_EQ(with({{"split_special_tokens", true}}),
            file + "split_special_tokens = true is not supported (only false)");
  EXPECT_EQ(with({{"image_token", "<i>"}}), file + "image_token = \"<i>\" is not a token of Llama's");
  EXPECT_EQ(with({{"do_upper_case", true}}), file + "unknown key do_upper_case = true");
}

}  // namespace
}  // namespace sagelab
