// SPDX-License-Identifier: Apache-2.0
// Damaged and hostile tokenizer files: one sagelab::Error that names the file and the fault, never a crash.
#include <gmock/gmock.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <random>
#include <sstream>

#include "attention/error.h"
#include "pipelines/core/config.h"
#include "pipelines/text/tokenizer.h"
#include "pipelines/text/unigram/character_map.h"
#include "pipelines/text/unigram/sentencepiece.h"
#include "pipelines/text/unigram/unigram.h"

namespace sagelab {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::StartsWith;

const fs::path kGoodRoot = fs::path(SAGELAB_FIXTURES) / "text_tokenizers";

std::string read(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

std::string message(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

// What transformers wrote into the folders of released T5 checkpoints, over the years.
const json kReleasedKeys = {{"add_prefix_space", true},
                            {"additional_special_tokens", json::array()},
                            {"clean_up_tokenization_spaces", true},
                            {"eos_token", "</s>"},
                            {"extra_ids", 100},
                            {"init_inputs", json::array()},
                            {"legacy", true},
                            {"model_max_length", 226},
                            {"name_or_path", "google/t5-v1_1-xxl"},
                            {"pad_token", "<pad>"},
                            {"sp_model_kwargs", json::object()},
                            {"special_tokens_map_file", "special_tokens_map.json"},
                            {"tokenizer_class", "T5Tokenizer"},
                            {"tokenizer_file", nullptr},
                            {"unk_token", "<unk>"},
                            {"use_fast", true},
                            {"backend", "tokenizers"},
                            {"is_local", true},
                            {"local_files_only", false},
                            {"unk_id", 2}};

// A tokenizer folder of its own, gone with the test.
class BadFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("sagelab_bad_tokenizer_" + std::to_string(getpid()));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  void write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name, std::ios::binary) << text;
  }
  // What opening the folder says, the folder's name cut off.
  std::string refusal() {
    std::string text = message([&] { open_t5_tokenizer(folder_)->encode("some text é\u0301 ﬁ", 16); });
    for (size_t at; (at = text.find(folder_.string() + "/")) != std::string::npos;)
      text.erase(at, folder_.string().size() + 1);
    return text;
  }
  // tokenizer.json with a change.
  std::string changed(const std::function<void(json&)>& change) {
    static const json kGood = [] {
      json file = read_json(kGoodRoot / "json/tokenizer.json");
      auto& vocab = file["model"]["vocab"];
      vocab.erase(vocab.begin() + 50, vocab.end() - 100);
      file["added_tokens"].erase(file["added_tokens"].begin() + 3, file["added_tokens"].end());
      return file;
    }();
    json file = kGood;
    change(file);
    write("tokenizer.json", file.dump());
    return refusal();
  }

  fs::path folder_;
};

TEST_F(BadFolder, MissingFiles) {
  EXPECT_EQ(message([&] { open_t5_tokenizer(folder_ / "x"); }),
            (folder_ / "x").string() + ": no such folder");
  EXPECT_EQ(refusal(), folder_.string() + ": neither tokenizer.json nor spiece.model is there");
}

TEST_F(BadFolder, PartsOfTokenizerJsonThatAreNotSupported) {
  const auto set = [&](const char* pointer, json value) {
    return changed([&](json& file) { file[json::json_pointer(pointer)] = std::move(value); });
  };
  EXPECT_EQ(changed([](json&) {}), "accepted");
  EXPECT_EQ(set("/model/type", "BPE"),
            "tokenizer.json: model.type = \"BPE\" is not supported (only \"Unigram\")");
  EXPECT_EQ(set("/model/unk_id", 0),
            "tokenizer.json: model.unk_id = 0 is not supported (only 2, as T5Tokenizer has it)");
  EXPECT_EQ(set("/model/byte_fallback", true),
            "tokenizer.json: model.byte_fallback = true is not supported (T5Tokenizer has none)");
  EXPECT_EQ(set("/model/vocab", 3), "tokenizer.json: model.vocab = 3 should be a list of [piece, score]");
  EXPECT_EQ(set("/model/vocab/7", "x"), "tokenizer.json: model.vocab[7] = \"x\" should be [piece, score]");
  EXPECT_EQ(set("/model/vocab", json::array()), "tokenizer.json: the unknown piece is number 2 of 0 pieces");
  EXPECT_EQ(set("/model/vocab/7/0", ""), "tokenizer.json: piece 7 is empty");
  EXPECT_EQ(set("/model/vocab/7/0", "</s>"), "tokenizer.json: pieces 1 and 7 are both \"</s>\"");
  EXPECT_EQ(set("/normalizer", {{"type", "Lowercase"}}),
            "tokenizer.json: normalizer = {\"type\":\"Lowercase\"} is not supported (only Precompiled)");
  EXPECT_EQ(set("/normalizer", {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}}}}),
            "tokenizer.json: normalizer.normalizers[0] = {\"type\":\"NFC\"} is not supported");
  EXPECT_EQ(set("/normalizer/precompiled_charsmap", "AAA"),
            "tokenizer.json: normalizer.precompiled_charsmap = \"AAA\" is not base64");
  EXPECT_EQ(set("/normalizer/precompiled_charsmap", "A*AA"),
            "tokenizer.json: normalizer.precompiled_charsmap = \"A*AA\" is not base64");
  EXPECT_EQ(set("/normalizer/precompiled_charsmap", "A==="),
            "tokenizer.json: normalizer.precompiled_charsmap = \"A===\" is not base64");
  EXPECT_EQ(set("/normalizer/precompiled_charsmap", "AAA="),
            "tokenizer.json: the character map is damaged: it is shorter than its header");
  EXPECT_EQ(
      set("/pre_tokenizer", {{"type", "ByteLevel"}}),
      "tokenizer.json: pre_tokenizer = {\"type\":\"ByteLevel\"} is not supported (only WhitespaceSplit and "
      "Metaspace with \"▁\")");
  EXPECT_THAT(set("/pre_tokenizer/pretokenizers/1/prepend_scheme", "never"),
              StartsWith("tokenizer.json: pre_tokenizer.pretokenizers[1] = {"));
  EXPECT_THAT(set("/post_processor/type", "RobertaProcessing"),
              StartsWith("tokenizer.json: post_processor = {"));
  EXPECT_EQ(set("/padding", {{"direction", "Left"}}),
            "tokenizer.json: padding.direction = \"Left\" is not supported (only \"Right\")");
  EXPECT_EQ(set("/added_tokens/1", 5), "tokenizer.json: added_tokens = 5 has no id");
  EXPECT_EQ(set("/added_tokens/1/lstrip", 5).substr(0, 33), "tokenizer.json: added_tokens = {\"");
}

TEST_F(BadFolder, TokenizerJsonThatIsNoJson) {
  write("tokenizer.json", "{\"model\": {\"vocab\": [[\"a\", NaN]]}}");
  EXPECT_THAT(refusal(), StartsWith("tokenizer.json: not valid JSON: "));
  write("tokenizer.json", "[]");
  EXPECT_EQ(refusal(), "tokenizer.json: should be a JSON object");
  const std::string good = read(kGoodRoot / "json/tokenizer.json");
  write("tokenizer.json", good.substr(0, good.size() / 2));
  EXPECT_THAT(refusal(), StartsWith("tokenizer.json: not valid JSON: "));
}

TEST_F(BadFolder, SettingsThatAreNotSupported) {
  fs::copy(kGoodRoot / "json/tokenizer.json", folder_ / "tokenizer.json");
  const auto config = [&](const json& values) {
    write("tokenizer_config.json", values.dump());
    return refusal();
  };
  EXPECT_EQ(config({{"eos_token", nullptr}}),
            "tokenizer_config.json: eos_token = null is not supported: T5's tokenizer has it");
  EXPECT_EQ(config({{"eos_token", 1}}), "tokenizer_config.json: eos_token = 1 is not a token");
  EXPECT_EQ(config({{"image_token", "<i>"}}),
            "tokenizer_config.json: image_token = \"<i>\" is not a token of T5's");
  EXPECT_EQ(config({{"extra_ids", -1}}),
            "tokenizer_config.json: extra_ids = -1 should be a number of sentinels");
  EXPECT_EQ(config({{"padding_side", "left"}}),
            "tokenizer_config.json: padding_side = \"left\" is not supported (only \"right\")");
  EXPECT_EQ(config({{"truncation_side", "left"}}),
            "tokenizer_config.json: truncation_side = \"left\" is not supported (only \"right\")");
  EXPECT_EQ(config({{"split_special_tokens", true}}),
            "tokenizer_config.json: split_special_tokens = true is not supported (only false)");
  EXPECT_EQ(config({{"added_tokens_decoder", {{"-3", {{"content", "x"}}}}}}),
            "tokenizer_config.json: added_tokens_decoder = {\"-3\":{\"content\":\"x\"}} has the id \"-3\"");
  EXPECT_EQ(config(kReleasedKeys), "accepted");
  EXPECT_EQ(
      config({{"extra_special_tokens", {{"image_token", "<image>"}}}}),
      "tokenizer_config.json: extra_special_tokens = {\"image_token\":\"<image>\"} is not supported (only "
      "a list of tokens, or {})");
  EXPECT_EQ(config({{"init_inputs", {"x"}}}),
            "tokenizer_config.json: init_inputs = [\"x\"] is not supported (only [])");
  EXPECT_EQ(config({{"do_upper_case", true}}), "tokenizer_config.json: unknown key do_upper_case = true");
  EXPECT_EQ(config(json::array()), "tokenizer_config.json: should be a JSON object");
  write("tokenizer_config.json", "{}");
  write("special_tokens_map.json", "{\"soft_token\": \"x\"}");
  EXPECT_EQ(refusal(), "special_tokens_map.json: soft_token = \"x\" is not supported");
  write("special_tokens_map.json", "{\"additional_special_tokens\": [\"<extra_id_0>\"]}");
  EXPECT_EQ(refusal(), folder_.string() + ": 1 sentinels where extra_ids is 100");
  write("special_tokens_map.json", "{}");
  write("added_tokens.json", "{\"x\": \"y\"}");
  EXPECT_EQ(refusal(), "added_tokens.json: x = \"y\" is not an id");
}

// Fields of protobuf's wire format, by hand.
std::string varint(uint64_t n) {
  std::string bytes;
  for (; n >= 128; n >>= 7) bytes.push_back(char(n | 128));
  return bytes + char(n);
}
std::string bytes_field(int field, const std::string& bytes) {
  return varint(uint64_t(field) << 3 | 2) + varint(bytes.size()) + bytes;
}
std::string number_field(int field, uint64_t n) {
  return varint(uint64_t(field) << 3) + varint(n);
}
std::string piece(const std::string& text, float score, int type = 1) {
  std::string bits(4, '\0');
  std::memcpy(bits.data(), &score, 4);
  return bytes_field(1, bytes_field(1, text) + char(2 << 3 | 5) + bits + number_field(3, uint64_t(type)));
}
const std::string kPieces = bytes_field(3, "") + piece("<pad>", 0, 3) + piece("</s>", 0, 3) +
                            piece("<unk>", 0, 2) + piece("▁", -2) + piece("e", -3);

TEST_F(BadFolder, SpieceModels) {
  const auto model = [&](const std::string& bytes) {
    write("spiece.model", bytes);
    return refusal();
  };
  const std::string end = std::to_string(kPieces.size()), in_text = std::to_string(kPieces.size() + 2);
  EXPECT_EQ(model(kPieces), "accepted");
  EXPECT_EQ(model(""), "spiece.model: not a whole SentencePiece model: it has no normalizer_spec");
  EXPECT_EQ(model(bytes_field(3, "")),
            "spiece.model: 0 pieces without the unknown one at 2 is not supported");
  EXPECT_EQ(model(kPieces + piece("e", -4)), "spiece.model: pieces 4 and 5 are both \"e\"");
  EXPECT_EQ(model(kPieces + piece("x", std::nanf(""))), "spiece.model: piece 5 (\"x\") has the score nan");
  EXPECT_EQ(model(kPieces + piece("x", INFINITY)), "spiece.model: piece 5 (\"x\") has the score inf");
  EXPECT_EQ(model(kPieces + piece("", -4)), "spiece.model: piece 5 is empty");
  EXPECT_EQ(model(kPieces + piece("x", -4, 2)),
            "spiece.model: the unknown piece at 5 (only at 2) is not supported");
  EXPECT_EQ(model(kPieces + piece("\xFF", -4)),
            "spiece.model: not a SentencePiece model: text that is not UTF-8 at byte " + in_text);
  EXPECT_EQ(model(kPieces + "\x0A\x7F"),
            "spiece.model: not a SentencePiece model: the end of the data inside a field at byte " + end);
  EXPECT_EQ(model(kPieces + "\x0A"),
            "spiece.model: not a SentencePiece model: the end of the data inside a field at byte " + end);
  EXPECT_EQ(model(kPieces + std::string(12, '\xFF')),
            "spiece.model: not a SentencePiece model: a number of more than 10 bytes at byte " + end);
  EXPECT_EQ(model(kPieces + '\0'),
            "spiece.model: not a SentencePiece model: bad field number at byte " + end);
  EXPECT_EQ(model(kPieces + '\x0B'),
            "spiece.model: not a SentencePiece model: unknown wire type at byte " + end);
  EXPECT_EQ(model(kPieces + number_field(1, 5)),
            "spiece.model: not a SentencePiece model: a field of the wrong type at byte " + end);
  EXPECT_EQ(model(kPieces + bytes_field(2, number_field(3, 2))),
            "spiece.model: trainer_spec.model_type = 2 (only 1, Unigram) is not supported");
  EXPECT_EQ(model(kPieces + bytes_field(2, number_field(35, 1))),
            "spiece.model: trainer_spec.byte_fallback = true is not supported");
  EXPECT_EQ(model(kPieces + bytes_field(3, number_field(3, 0))),
            "spiece.model: normalizer_spec.add_dummy_prefix = false is not supported");
  EXPECT_EQ(model(kPieces + bytes_field(3, bytes_field(2, "ab"))),
            "spiece.model: the character map is damaged: it is shorter than its header");
}

std::string word(uint32_t n) {
  return std::string(reinterpret_cast<const char*>(&n), 4);
}

TEST(BadCharacterMap, PointsOutsideItself) {
  const auto normalize = [](const std::string& blob, const std::string& text) {
    return message([&] { CharacterMap(blob, "f").normalize(text); });
  };
  const std::string damaged = "f: the character map is damaged: ";
  EXPECT_EQ(normalize(word(100) + word(0), "a"), damaged + "its trie reaches beyond its end");
  EXPECT_EQ(normalize(word(3) + word(0), "a"), damaged + "the size of its trie is no multiple of 4");
  EXPECT_EQ(normalize(word(0), "a"), damaged + "the size of its trie is no multiple of 4");
  EXPECT_EQ(normalize(word(4) + word(0) + "\xFF", "a"), damaged + "its replacements are not UTF-8");
  EXPECT_EQ(normalize(word(4) + word(0xFFFFFC00), "a"), damaged + "its trie points outside itself");
  EXPECT_EQ(normalize(word(4) + word(0), "a"), damaged + "its trie points outside itself");

  // Root at 0 with offset 1; 'a' at 1 ^ 0x61 = 0x60, a leaf with offset 1: its value is at 0x61.
  std::vector<uint32_t> units(0x100, 0xFFFFFFFF);
  units[0] = 1 << 10;
  units[0x60] = 1 << 10 | 1 << 8 | 0x61;
  const auto blob = [&](uint32_t value) {
    units[0x61] = 0x80000000 | value;
    std::string bytes = word(uint32_t(4 * units.size()));
    for (const uint32_t unit : units) bytes += word(unit);
    return bytes + "x" + '\0' + "é" + '\0';
  };
  EXPECT_EQ(CharacterMap(blob(0), "f").normalize("banana"), "bxnxnx");
  EXPECT_EQ(CharacterMap(blob(2), "f").normalize("banana"), "bénéné");
  EXPECT_EQ(CharacterMap(blob(5), "f").normalize("banana"), "bnn");
  EXPECT_EQ(CharacterMap(blob(0), "f").normalize("a\u0301"), "x") << "a cluster goes as a whole";
  EXPECT_EQ(normalize(blob(3), "banana"), damaged + "its trie points into a character");
  EXPECT_EQ(normalize(blob(6), "banana"), damaged + "its trie points outside the replacements");
}

// Whatever a damaged file holds: an error or ids, never a crash.
TEST(DamagedSpieceModel, NeverCrashes) {
  const std::string good = read(kGoodRoot / "plain/spiece.model");
  ASSERT_GT(good.size(), 100000u);
  std::mt19937 random(1);
  int refused = 0;
  const auto attempt = [&](const std::string& bytes) {
    refused += message([&] {
                 SentencePieceModel model = parse_sentencepiece(bytes, "f");
                 CharacterMap map;
                 if (!model.character_map.empty()) map = CharacterMap(model.character_map, "f");
                 const std::string text = map.normalize("ﬁ é e\u0301 １２ 한국 \u0958 ½ A small red fox");
                 std::vector<int64_t> ids;
                 Unigram(std::move(model.pieces), 2, "f").encode(text, ids);
               }) != "accepted";
  };
  for (int i = 0; i < 60; ++i) attempt(good.substr(0, random() % good.size()));
  for (int i = 0; i < 120; ++i) {
    std::string bytes = good;
    for (int k = 0; k < 40; ++k) bytes[random() % bytes.size()] = char(random());
    attempt(bytes);
  }
  EXPECT_GT(refused, 60);
}

TEST(UnigramTies, KeepTheFirstBestAndFuseUnknowns) {
  const Unigram unigram(
      {{"<pad>", 0}, {"</s>", 0}, {"<unk>", 0}, {"a", -1}, {"b", -1}, {"ab", -2}, {"abc", -9}, {"zz", -30}},
      2, "f");
  const auto encode = [&](std::string_view word) {
    std::vector<int64_t> ids;
    unigram.encode(word, ids);
    return ids;
  };
  using Ids = std::vector<int64_t>;
  EXPECT_EQ(encode("ab"), Ids{5}) << "ab = -2 = a b; the piece that starts first reaches the end first";
  EXPECT_EQ(encode("aab"), (Ids{3, 5}));
  EXPECT_EQ(encode("xyz"), Ids{2});
  EXPECT_EQ(encode("axyzb"), (Ids{3, 2, 4}));
  EXPECT_EQ(encode("abc"), Ids{6});
  EXPECT_EQ(encode("zz"), Ids{7});
  EXPECT_EQ(encode(""), Ids{});
}

}  // namespace
}  // namespace sagelab
