// SPDX-License-Identifier: Apache-2.0
#include "pipelines/text/t5/vocabulary.h"

#include <fmt/format.h>

#include <array>
#include <string_view>
#include <utility>

#include "attention/error.h"
#include "pipelines/core/config.h"
#include "pipelines/text/unigram/sentencepiece.h"

namespace sagelab {
namespace {

using Json = nlohmann::json;

// tokenizer.json, part by part. A part that T5's tokenizer does not have is refused by its name.
class JsonReader {
 public:
  JsonReader(const Json& file, const std::string& where) : file_(file), where_(where) {}

  T5Vocabulary read() {
    if (!file_.is_object()) throw Error(fmt::format("{}: should be a JSON object", where_));
    T5Vocabulary vocabulary;
    vocabulary.pieces = read_pieces(part(file_, "model"));
    vocabulary.character_map = read_normalizer(part(file_, "normalizer"));
    check_pre_tokenizer(part(file_, "pre_tokenizer"));
    check_post_processor(part(file_, "post_processor"));
    check_side("truncation");
    check_side("padding");
    return vocabulary;
  }

 private:
  [[noreturn]] void refuse(const std::string& key, const Json& value, std::string_view why) const {
    throw Error(fmt::format("{}: {} = {} {}", where_, key, shown(value), why));
  }

  static const Json& part(const Json& object, const char* key) {
    static const Json kNull;
    const auto found = object.is_object() ? object.find(key) : object.end();
    return found == object.end() ? kNull : *found;
  }
  static bool is(const Json& object, std::string_view type) { return part(object, "type") == type; }

  std::vector<Piece> read_pieces(const Json& model) const {
    if (!is(model, "Unigram"))
      refuse("model.type", part(model, "type"), "is not supported (only \"Unigram\")");
    if (part(model, "unk_id") != kT5UnknownId)
      refuse("model.unk_id", part(model, "unk_id"), "is not supported (only 2, as T5Tokenizer has it)");
    const Json& fallback = part(model, "byte_fallback");
    if (!fallback.is_null() && fallback != false)
      refuse("model.byte_fallback", fallback, "is not supported (T5Tokenizer has none)");
    const Json& vocab = part(model, "vocab");
    if (!vocab.is_array()) refuse("model.vocab", vocab, "should be a list of [piece, score]");
    std::vector<Piece> pieces;
    pieces.reserve(vocab.size());
    for (const Json& row : vocab) {
      if (!row.is_array() || row.size() != 2 || !row[0].is_string() || !row[1].is_number())
        refuse(fmt::format("model.vocab[{}]", pieces.size()), row, "should be [piece, score]");
      pieces.push_back({row[0].get<std::string>(), row[1].get<double>()});
    }
    return pieces;
  }

  // null, Precompiled, or the sequence that transformers 4 saved: Precompiled, then two that remove white
  // space, which T5Tokenizer leaves to its splitting.
  std::string read_normalizer(const Json& normalizer) const {
    if (normalizer.is_null()) return {};
    if (!is(normalizer, "Sequence")) return read_precompiled("normalizer", normalizer);
    const Json& steps = part(normalizer, "normalizers");
    if (!steps.is_array()) refuse("normalizer.normalizers", steps, "should be a list");
    static const Json kReplace = {{"type", "Replace"}, {"pattern", {{"Regex", " {2,}"}}}, {"content", "▁"}};
    static const Json kStrip = {{"type", "Strip"}, {"strip_left", false}, {"strip_right", true}};
    std::string map;
    for (size_t i = 0; i < steps.size(); ++i) {
      const std::string key = fmt::format("normalizer.normalizers[{}]", i);
      if (i == 0 && is(steps[i], "Precompiled"))
        map = read_precompiled(key, steps[i]);
      else if (steps[i] != kReplace && steps[i] != kStrip)
        refuse(key, steps[i], "is not supported");
    }
    return map;
  }

  std::string read_precompiled(const std::string& key, const Json& normalizer) const {
    if (!is(normalizer, "Precompiled")) refuse(key, normalizer, "is not supported (only Precompiled)");
    const Json& map = part(normalizer, "precompiled_charsmap");
    if (!map.is_string()) refuse(key + ".precompiled_charsmap", map, "should be base64");
    return base64(key + ".precompiled_charsmap", map.get_ref<const std::string&>());
  }

  std::string base64(const std::string& key, const std::string& text) const {
    constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::array<int8_t, 256> value;
    value.fill(-1);
    for (size_t i = 0; i < kDigits.size(); ++i) value[uint8_t(kDigits[i])] = int8_t(i);
    const size_t digits = text.find_last_not_of('=') + 1;
    std::string bytes;
    bytes.reserve(text.size() / 4 * 3);
    uint32_t bits = 0;
    bool good = text.size() % 4 == 0 && text.size() - digits <= 2;
    for (size_t i = 0; good && i < digits; ++i) {
      const int digit = value[uint8_t(text[i])];
      good = digit >= 0;
      bits = bits << 6 | uint32_t(digit & 63);
      // Of every four digits, the last three complete a byte each.
      if (i % 4 != 0) bytes.push_back(char(bits >> (6 - 2 * (i % 4))));
    }
    if (!good) refuse(key, text, "is not base64");
    return bytes;
  }

  // WhitespaceSplit and Metaspace, or Metaspace alone, as transformers 4 saved: T5Tokenizer has the first for
  // both, and always puts the mark in front.
  void check_pre_tokenizer(const Json& pre) const {
    const Json& steps = part(pre, "pretokenizers");
    if (is(pre, "Sequence") && steps.is_array() && steps.size() == 2 && is(steps[0], "WhitespaceSplit"))
      check_metaspace("pre_tokenizer.pretokenizers[1]", steps[1]);
    else
      check_metaspace("pre_tokenizer", pre);
  }

  void check_metaspace(const std::string& key, const Json& pre) const {
    const Json& scheme = part(pre, "prepend_scheme");
    const Json& prefix = part(pre, "add_prefix_space");
    const Json& split = part(pre, "split");
    if (!is(pre, "Metaspace") || part(pre, "replacement") != "▁" || (!prefix.is_null() && prefix != true) ||
        (!scheme.is_null() && scheme != "always" && scheme != "first") || (!split.is_null() && split != true))
      refuse(key, pre, "is not supported (only WhitespaceSplit and Metaspace with \"▁\")");
  }

  void check_post_processor(const Json& post) const {
    if (post.is_null()) return;
    const Json& single = part(post, "single");
    const bool text_then_end = single.is_array() && single.size() == 2 &&
                               part(part(single[0], "Sequence"), "id") == "A" &&
                               single[1].contains("SpecialToken");
    if (!is(post, "TemplateProcessing") || !text_then_end)
      refuse("post_processor", post, "is not supported (only the text, then the end token)");
  }

  void check_side(const char* key) const {
    const Json& direction = part(part(file_, key), "direction");
    if (!direction.is_null() && direction != "Right")
      refuse(std::string(key) + ".direction", direction, "is not supported (only \"Right\")");
  }

  const Json& file_;
  const std::string& where_;
};

}  // namespace

T5Vocabulary vocabulary_from_json(const nlohmann::json& file, const std::string& where) {
  return JsonReader(file, where).read();
}

T5Vocabulary vocabulary_from_spiece(const std::filesystem::path& file) {
  SentencePieceModel model = read_sentencepiece(file);
  const auto refuse = [&](std::string_view what) {
    throw Error(fmt::format("{}: {} is not supported", file.string(), what));
  };
  if (model.model_type != SentencePieceModel::UnigramModel)
    refuse(fmt::format("trainer_spec.model_type = {} (only 1, Unigram)", model.model_type));
  if (model.byte_fallback) refuse("trainer_spec.byte_fallback = true");
  if (model.whitespace_as_suffix) refuse("trainer_spec.treat_whitespace_as_suffix = true");
  if (!model.add_dummy_prefix) refuse("normalizer_spec.add_dummy_prefix = false");
  if (!model.remove_extra_whitespaces) refuse("normalizer_spec.remove_extra_whitespaces = false");
  if (!model.escape_whitespaces) refuse("normalizer_spec.escape_whitespaces = false");
  if (model.pieces.size() <= size_t(kT5UnknownId) || model.types[kT5UnknownId] != SentencePieceModel::Unknown)
    refuse(fmt::format("{} pieces without the unknown one at {}", model.pieces.size(), kT5UnknownId));
  T5Vocabulary vocabulary;
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    const int type = model.types[i];
    if (type == SentencePieceModel::Unknown && i != size_t(kT5UnknownId))
      refuse(fmt::format("the unknown piece at {} (only at {})", i, kT5UnknownId));
    if (type != SentencePieceModel::Control && type != SentencePieceModel::UserDefined) continue;
    TokenSpec token;
    token.content = model.pieces[i].text;
    token.special = type == SentencePieceModel::Control;
    token.normalized = false;
    vocabulary.controls.push_back(std::move(token));
  }
  vocabulary.pieces = std::move(model.pieces);
  vocabulary.character_map = std::move(model.character_map);
  return vocabulary;
}

}  // namespace sagelab
