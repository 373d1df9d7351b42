// SPDX-License-Identifier: Apache-2.0
// Damaged and foreign CLIP tokenizer files: one sagelab::Error that names the file and the fault, never a
// crash.
#include <gmock/gmock.h>

#include "pipelines/core/config.h"
#include "pipelines/text/clip/tokenizer.h"
#include "tests/support/tokenizers.h"

namespace sagelab {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::StartsWith;

const fs::path kGoodRoot = fs::path(SAGELAB_FIXTURES) / "clip_tokenizers";
constexpr const char* kVersion = "#version: 0.2\n";

class BadClipFolder : public testing::TokenizerFolder {
 protected:
  BadClipFolder() : TokenizerFolder(open_clip_tokenizer) {}

  std::string files(const json& vocab, const std::string& merges) {
    write("vocab.json", vocab.dump());
    write("merges.txt", merges);
    return refusal();
  }
  // tokenizer.json with a change, its vocabulary shortened.
  std::string set(const char* pointer, json value) {
    static const json kGood = [] {
      json file = read_json(kGoodRoot / "json/tokenizer.json");
      file["model"]["vocab"] = {
          {"a", 0}, {"b</w>", 1}, {"ab</w>", 2}, {"<|startoftext|>", 3}, {"<|endoftext|>", 4}};
      file["model"]["merges"] = json::array({json::array({"a", "b</w>"})});
      return file;
    }();
    json file = kGood;
    file[json::json_pointer(pointer)] = std::move(value);
    write("tokenizer.json", file.dump());
    return refusal();
  }

  const json vocab_ = {{"a", 0}, {"b</w>", 1}, {"ab</w>", 2}, {"<|startoftext|>", 3}, {"<|endoftext|>", 4}};
};

TEST_F(BadClipFolder, MissingFiles) {
  EXPECT_EQ(refusal(), folder_.string() + ": neither tokenizer.json nor vocab.json is there");
  write("vocab.json", vocab_.dump());
  EXPECT_EQ(refusal(), "merges.txt: no such file, beside vocab.json");
  fs::remove(folder_ / "vocab.json");
  write("merges.txt", kVersion);
  EXPECT_EQ(refusal(), "vocab.json: no such file, beside merges.txt");
  fs::remove_all(folder_);
  EXPECT_EQ(refusal(), folder_.string() + ": no such folder");
}

TEST_F(BadClipFolder, Vocabularies) {
  EXPECT_EQ(files(vocab_, kVersion), "accepted");
  json no_end = vocab_, no_start = vocab_;
  no_end.erase("<|endoftext|>");
  no_start.erase("<|startoftext|>");
  EXPECT_EQ(files(no_end, kVersion), "vocab.json: eos_token \"<|endoftext|>\" is not in the vocabulary");
  EXPECT_EQ(files(no_start, kVersion), "vocab.json: bos_token \"<|startoftext|>\" is not in the vocabulary");
  EXPECT_EQ(files(json::object(), kVersion), "vocab.json = {} should be an object of ids by token");
  EXPECT_EQ(files(json::array({1}), kVersion), "vocab.json = [1] should be an object of ids by token");
  EXPECT_EQ(files({{"a", -1}}, kVersion), "vocab.json: \"a\" has the id -1");
  EXPECT_EQ(files({{"a", "b"}}, kVersion), "vocab.json: \"a\" has the id \"b\"");
  EXPECT_EQ(files({{"a", 5000000000}}, kVersion), "vocab.json: \"a\" has the id 5000000000");
  write("vocab.json", "{\"a\": 0, ");
  EXPECT_THAT(refusal(), StartsWith("vocab.json: not valid JSON: "));
}

TEST_F(BadClipFolder, Merges) {
  const std::string version = kVersion;
  EXPECT_EQ(files(vocab_, version + "a b</w>\n"), "accepted");
  EXPECT_EQ(files(vocab_, version + "a b</w>\r\n"), "accepted");
  EXPECT_EQ(files(vocab_, "a b</w>"), "accepted");
  const auto form = [](const std::string& line, const char* text) {
    return "merges.txt: line " + line + " = \"" + text + "\" should be two symbols with a space between them";
  };
  EXPECT_EQ(files(vocab_, version + "ab\n"), form("2", "ab"));
  EXPECT_EQ(files(vocab_, version + "a b</w>\na b c\n"), form("3", "a b c"));
  EXPECT_EQ(files(vocab_, version + "a  b</w>\n"), form("2", "a  b</w>"));
  EXPECT_EQ(files(vocab_, version + " a\n"), form("2", " a"));
  EXPECT_EQ(files(vocab_, version + "a \n"), form("2", "a "));
  EXPECT_EQ(files(vocab_, version + "\na b</w>\n"), form("2", ""));
  EXPECT_EQ(files(vocab_, version + "a \xFF\n"), "merges.txt: line 2 is not UTF-8");
  EXPECT_EQ(files(vocab_, version + "a c\n"),
            "merges.txt: merge 1 (\"a c\") needs \"c\", which is not in the vocabulary");
  EXPECT_EQ(files(vocab_, version + "a b</w>\nx a\n"),
            "merges.txt: merge 2 (\"x a\") needs \"x\", which is not in the vocabulary");
  EXPECT_EQ(files(vocab_, version + "a a\n"),
            "merges.txt: merge 1 (\"a a\") needs \"aa\", which is not in the vocabulary");
}

TEST_F(BadClipFolder, PartsOfTokenizerJsonThatAreNotSupported) {
  EXPECT_EQ(set("/version", "1.0"), "accepted");
  EXPECT_EQ(set("/model/type", "Unigram"),
            "tokenizer.json: model.type = \"Unigram\" is not supported (only \"BPE\")");
  EXPECT_EQ(
      set("/model/end_of_word_suffix", nullptr),
      "tokenizer.json: model.end_of_word_suffix = null is not supported (only \"</w>\", as CLIPTokenizer "
      "has it)");
  EXPECT_EQ(set("/model/fuse_unk", true),
            "tokenizer.json: model.fuse_unk = true is not supported (only false)");
  EXPECT_EQ(set("/model/byte_fallback", true),
            "tokenizer.json: model.byte_fallback = true is not supported (only false)");
  EXPECT_EQ(set("/model/ignore_merges", true),
            "tokenizer.json: model.ignore_merges = true is not supported (only false)");
  EXPECT_EQ(set("/model/dropout", 0.1), "tokenizer.json: model.dropout = 0.1 is not supported (only null)");
  EXPECT_EQ(set("/model/continuing_subword_prefix", "##"),
            "tokenizer.json: model.continuing_subword_prefix = \"##\" is not supported (only \"\")");
  EXPECT_EQ(set("/model/vocab", 3), "tokenizer.json: model.vocab = 3 should be an object of ids by token");
  EXPECT_EQ(set("/model/merges", 3), "tokenizer.json: model.merges = 3 should be a list of pairs");
  EXPECT_EQ(set("/model/merges/0", "a b</w>"), "accepted");
  EXPECT_EQ(set("/model/merges/0", "ab"),
            "tokenizer.json: model.merges[0] = \"ab\" should be two symbols with a space between them");
  EXPECT_EQ(set("/model/merges/0", json::array({"a"})),
            "tokenizer.json: model.merges[0] = [\"a\"] should be two symbols");
  EXPECT_EQ(set("/model/merges/0", json::array({"a", "c"})),
            "tokenizer.json: merge 1 (\"a c\") needs \"c\", which is not in the vocabulary");
  EXPECT_EQ(
      set("/normalizer", {{"type", "Lowercase"}}),
      "tokenizer.json: normalizer = {\"type\":\"Lowercase\"} is not supported (only NFC, one space for white "
      "space, lower case)");
  EXPECT_THAT(set("/pre_tokenizer/pretokenizers/0/invert", false),
              StartsWith("tokenizer.json: pre_tokenizer = {"));
  EXPECT_THAT(set("/pre_tokenizer/pretokenizers/0/pattern/Regex", ".+"),
              StartsWith("tokenizer.json: pre_tokenizer = {"));
  EXPECT_EQ(set("/post_processor", {{"type", "BertProcessing"}}),
            "tokenizer.json: post_processor = {\"type\":\"BertProcessing\"} is not supported (only "
            "RobertaProcessing)");
  EXPECT_EQ(set("/padding", {{"direction", "Left"}}),
            "tokenizer.json: padding.direction = \"Left\" is not supported (only \"Right\")");
  EXPECT_EQ(set("/truncation", {{"direction", "Left"}}),
            "tokenizer.json: truncation.direction = \"Left\" is not supported (only \"Right\")");
  EXPECT_THAT(set("/added_tokens/0", 5), StartsWith("tokenizer.json: added_tokens = 5 has no id"));
  write("tokenizer.json", "[]");
  EXPECT_EQ(refusal(), "tokenizer.json: should be a JSON object");
}

TEST_F(BadClipFolder, SettingsThatAreNotSupported) {
  files(vocab_, kVersion);
  const auto config = [&](const json& values) {
    write("tokenizer_config.json", values.dump());
    return refusal();
  };
  const std::string file = "tokenizer_config.json: ";
  EXPECT_EQ(config({{"model_max_length", 77}, {"errors", "replace"}, {"do_lower_case", true}}), "accepted");
  EXPECT_EQ(config({{"model_max_length", 1e30}}), "accepted");
  EXPECT_EQ(config({{"model_max_length", 1}}),
            file + "model_max_length = 1 should be a length of at least 2");
  EXPECT_EQ(config({{"pad_token", nullptr}}),
            file + "pad_token = null is not supported: CLIP's tokenizer has it");
  EXPECT_EQ(config({{"pad_token", "[PAD]"}}), "vocab.json: pad_token \"[PAD]\" is not in the vocabulary");
  EXPECT_EQ(config({{"unk_token", ""}}), "vocab.json: unk_token \"\" is not in the vocabulary");
  EXPECT_EQ(config({{"eos_token", 1}}), file + "eos_token = 1 is not a token");
  EXPECT_EQ(config({{"image_token", "<i>"}}), file + "image_token = \"<i>\" is not a token of CLIP's");
  EXPECT_EQ(config({{"padding_side", "left"}}),
            file + "padding_side = \"left\" is not supported (only \"right\")");
  EXPECT_EQ(config({{"truncation_side", "left"}}),
            file + "truncation_side = \"left\" is not supported (only \"right\")");
  EXPECT_EQ(config({{"split_special_tokens", true}}),
            file + "split_special_tokens = true is not supported (only false)");
  EXPECT_EQ(config({{"added_tokens_decoder", {{"-3", {{"content", "x"}}}}}}),
            file + "added_tokens_decoder = {\"-3\":{\"content\":\"x\"}} has the id \"-3\"");
  EXPECT_EQ(config({{"do_upper_case", true}}), file + "unknown key do_upper_case = true");
  EXPECT_EQ(config(json::array()), file + "should be a JSON object");
  write("tokenizer_config.json", "{}");
  write("special_tokens_map.json", "{\"soft_token\": \"x\"}");
  EXPECT_EQ(refusal(), "special_tokens_map.json: soft_token = \"x\" is not supported");
  write("special_tokens_map.json", "{}");
  write("added_tokens.json", "{\"x\": \"y\"}");
  EXPECT_EQ(refusal(), "added_tokens.json: x = \"y\" is not an id");
}

}  // namespace
}  // namespace sagelab
