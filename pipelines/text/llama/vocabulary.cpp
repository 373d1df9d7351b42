// SPDX-License-Identifier: Apache-2.0
#include "pipelines/text/llama/vocabulary.h"

#include <fmt/format.h>

#include "attention/error.h"
#include "pipelines/core/config.h"
#include "pipelines/text/llama/words.h"

namespace sagelab::llama {
namespace {

using Json = nlohmann::json;

const Json& part(const Json& object, const char* key) {
  return BpeJson::part(object, key);
}

void check_model(const BpeJson& file) {
  const Json& model = file.part("model");
  file.only(model, "model.", "continuing_subword_prefix", "");
  file.only(model, "model.", "end_of_word_suffix", "");
  file.only(model, "model.", "dropout", nullptr);
  file.only(model, "model.", "byte_fallback", false);
  if (const Json& normalizer = file.part("normalizer"); !normalizer.is_null())
    file.refuse("normalizer", normalizer, "is not supported (only none)");
}

// Split by the expression, then ByteLevel, which must not split again.
void check_pre_tokenizer(const BpeJson& file) {
  const Json& all = file.part("pre_tokenizer");
  const Json& steps = part(all, "pretokenizers");
  if (part(all, "type") != "Sequence" || !steps.is_array() || steps.size() != 2 ||
      part(steps[0], "type") != "Split" || part(steps[1], "type") != "ByteLevel")
    file.refuse("pre_tokenizer", all, "is not supported (only a Sequence of Split and ByteLevel)");
  const std::string split = "pre_tokenizer.pretokenizers[0].", bytes = "pre_tokenizer.pretokenizers[1].";
  const Json& expression = part(part(steps[0], "pattern"), "Regex");
  if (expression != kExpression)
    file.refuse(split + "pattern", part(steps[0], "pattern"),
                fmt::format("is not supported (only the expression {})", kExpression));
  if (part(steps[0], "behavior") != "Isolated")
    file.refuse(split + "behavior", part(steps[0], "behavior"), "is not supported (only \"Isolated\")");
  file.only(steps[0], split, "invert", false);
  // Absent, both are true.
  for (const char* key : {"add_prefix_space", "use_regex"})
    if (part(steps[1], key) != false)
      file.refuse(bytes + key, part(steps[1], key), "is not supported (only false)");
}

// TemplateProcessing: the start token, then the text; alone, or after a ByteLevel, which moves offsets alone.
void read_template(const BpeJson& file, Vocabulary& vocabulary) {
  const Json& all = file.part("post_processor");
  const Json* found = &all;
  if (const Json& steps = part(all, "processors"); part(all, "type") == "Sequence" && steps.is_array() &&
                                                   steps.size() == 2 && part(steps[0], "type") == "ByteLevel")
    found = &steps[1];
  const Json& single = part(*found, "single");
  const bool two = part(*found, "type") == "TemplateProcessing" && single.is_array() && single.size() == 2;
  const Json& start = two ? part(part(single[0], "SpecialToken"), "id") : part(all, "");
  if (!two || !start.is_string() || part(part(single[1], "Sequence"), "id") != "A")
    file.refuse("post_processor", all, "is not supported (only a template of the start token and the text)");
  vocabulary.bos = start.get<std::string>();
  const Json& ids = part(part(part(*found, "special_tokens"), vocabulary.bos.c_str()), "ids");
  if (!ids.is_array() || ids.size() != 1 || !ids[0].is_number_unsigned())
    file.refuse("post_processor", all, fmt::format("has no id of {}", vocabulary.bos));
  vocabulary.bos_id = ids[0].get<int64_t>();
}

// Without the symbol of every byte, a text might lose some.
void check_bytes(const Bpe::Vocabulary& ids, const std::string& where) {
  for (int byte = 0; byte < 256; ++byte)
    if (!ids.contains(Bpe::symbol(uint8_t(byte))))
      throw Error(fmt::format("{}: model.vocab has no symbol for the byte 0x{:02x}", where, byte),
                  "the vocabulary is cut short, or is none of bytes; download the tokenizer again");
}

}  // namespace

Vocabulary read_vocabulary(const Json& json, const std::string& where) {
  const BpeJson file(json, where);
  Vocabulary vocabulary;
  check_model(file);
  check_pre_tokenizer(file);
  read_template(file, vocabulary);
  file.require_right_sides();
  const Json& ignore = part(file.part("model"), "ignore_merges");
  if (!ignore.is_null() && !ignore.is_boolean())
    file.refuse("model.ignore_merges", ignore, "should be true or false");
  vocabulary.ignore_merges = ignore == true;
  vocabulary.bpe = file.read();
  check_bytes(vocabulary.bpe.ids, where);
  return vocabulary;
}

}  // namespace sagelab::llama
