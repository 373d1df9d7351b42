// SPDX-License-Identifier: Apache-2.0
#include "pipelines/text/clip/vocabulary.h"

#include <fmt/format.h>

#include <fstream>

#include "attention/error.h"
#include "pipelines/core/config.h"
#include "pipelines/core/utf8.h"

namespace sagelab::clip {
namespace {

using Json = nlohmann::json;

void check_model(const BpeJson& file) {
  const Json& model = file.part("model");
  const Json& suffix = BpeJson::part(model, "end_of_word_suffix");
  if (suffix != kSuffix)
    file.refuse("model.end_of_word_suffix", suffix,
                "is not supported (only \"</w>\", as CLIPTokenizer has it)");
  file.only(model, "model.", "continuing_subword_prefix", "");
  file.only(model, "model.", "dropout", nullptr);
  for (const char* key : {"fuse_unk", "byte_fallback", "ignore_merges"})
    file.only(model, "model.", key, false);
}

// transformers 4 wrote the expression without the special strings; CLIPTokenizer has them, whatever a file
// says.
bool is_split(const Json& step) {
  static const std::string kWords = R"('s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+)";
  const Json& expression = BpeJson::part(BpeJson::part(step, "pattern"), "Regex");
  return BpeJson::part(step, "type") == "Split" && BpeJson::part(step, "behavior") == "Removed" &&
         BpeJson::part(step, "invert") == true &&
         (expression == kWords || expression == R"(<\|startoftext\|>|<\|endoftext\|>|)" + kWords);
}

void check_text(const BpeJson& file) {
  static const Json kSteps = {{{"type", "NFC"}},
                              {{"type", "Replace"}, {"pattern", {{"Regex", "\\s+"}}}, {"content", " "}},
                              {{"type", "Lowercase"}}};
  const Json& normalizer = file.part("normalizer");
  if (BpeJson::part(normalizer, "normalizers") != kSteps)
    file.refuse("normalizer", normalizer,
                "is not supported (only NFC, one space for white space, lower case)");
  const Json& steps = BpeJson::part(file.part("pre_tokenizer"), "pretokenizers");
  const bool two = steps.is_array() && steps.size() == 2;
  if (!two || !is_split(steps[0]) || BpeJson::part(steps[1], "type") != "ByteLevel" ||
      BpeJson::part(steps[1], "add_prefix_space") != false)
    file.refuse("pre_tokenizer", file.part("pre_tokenizer"),
                "is not supported (only CLIP's Split, then ByteLevel)");
  const Json& post = file.part("post_processor");
  if (!post.is_null() && BpeJson::part(post, "type") != "RobertaProcessing")
    file.refuse("post_processor", post, "is not supported (only RobertaProcessing)");
  file.require_right_sides();
}

}  // namespace

BpeVocabulary vocabulary_from_json(const Json& file, const std::string& where) {
  const BpeJson parts(file, where);
  check_model(parts);
  check_text(parts);
  return parts.read();
}

BpeVocabulary vocabulary_from_files(const std::filesystem::path& vocab, const std::filesystem::path& merges) {
  BpeVocabulary vocabulary = {bpe_ids(read_json(vocab), vocab.string()), {}, vocab.string(), merges.string()};
  std::ifstream stream(merges, std::ios::binary);
  if (!stream)
    throw Error(fmt::format("{}: cannot be read", merges.string()), "vocab.json alone does not tell the ids");
  std::string line;
  for (int64_t number = 1; std::getline(stream, line); ++number) {
    if (line.ends_with('\r')) line.pop_back();
    const std::string what = fmt::format("{}: line {}", merges.string(), number);
    if (first_invalid_byte(line)) throw Error(what + " is not UTF-8", kDamagedVocabulary);
    if (!line.starts_with("#version")) vocabulary.merges.push_back(bpe_merge(line, what));
  }
  return vocabulary;
}

}  // namespace sagelab::clip
