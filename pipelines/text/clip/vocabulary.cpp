// SPDX-License-Identifier: Apache-2.0
#include "pipelines/text/clip/vocabulary.h"

#include <fmt/format.h>

#include <fstream>
#include <string_view>
#include <utility>

#include "attention/error.h"
#include "pipelines/core/config.h"
#include "pipelines/core/utf8.h"

namespace sagelab::clip {
namespace {

using Json = nlohmann::json;

constexpr const char* kAgain = "the file is damaged; download the tokenizer again";

// "left right", with one space between them.
std::pair<std::string, std::string> merge_of(std::string_view text, const std::string& what) {
  const size_t space = text.find(' ');
  if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos || space == 0 ||
      space + 1 == text.size())
    throw Error(fmt::format("{} = {} should be two symbols with a space between them", what,
                            shown(std::string(text))),
                kAgain);
  return {std::string(text.substr(0, space)), std::string(text.substr(space + 1))};
}

Bpe::Vocabulary ids_of(const Json& vocab, const std::string& what) {
  if (!vocab.is_object() || vocab.empty())
    throw Error(fmt::format("{} = {} should be an object of ids by token", what, shown(vocab)), kAgain);
  Bpe::Vocabulary ids;
  ids.reserve(vocab.size());
  for (const auto& [token, id] : vocab.items()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > 0x7FFFFFFF)
      throw Error(fmt::format("{}: \"{}\" has the id {}", what, token, shown(id)), kAgain);
    ids.emplace(token, id.get<int64_t>());
  }
  return ids;
}

// tokenizer.json, part by part. A part that CLIP's tokenizer does not have is refused by its name.
class JsonReader {
 public:
  JsonReader(const Json& file, const std::string& where) : file_(file), where_(where) {}

  Vocabulary read() const {
    if (!file_.is_object()) throw Error(fmt::format("{}: should be a JSON object", where_));
    const Json& model = part(file_, "model");
    check_model(model);
    check_text();
    return {ids_of(part(model, "vocab"), where_ + ": model.vocab"), read_merges(part(model, "merges")),
            where_, where_};
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

  // Honoured at CLIP's value alone; absent or null is that value.
  void only(const Json& object, const std::string& path, const char* key, const Json& supported) const {
    const Json& value = part(object, key);
    if (!value.is_null() && value != supported)
      refuse(path + key, value, fmt::format("is not supported (only {})", supported.dump()));
  }

  void check_model(const Json& model) const {
    if (part(model, "type") != "BPE")
      refuse("model.type", part(model, "type"), "is not supported (only \"BPE\")");
    if (part(model, "end_of_word_suffix") != kSuffix)
      refuse("model.end_of_word_suffix", part(model, "end_of_word_suffix"),
             "is not supported (only \"</w>\", as CLIPTokenizer has it)");
    only(model, "model.", "continuing_subword_prefix", "");
    only(model, "model.", "dropout", nullptr);
    for (const char* key : {"fuse_unk", "byte_fallback", "ignore_merges"}) only(model, "model.", key, false);
  }

  // transformers 4 wrote the expression without the special strings; CLIPTokenizer has them, whatever a file
  // says.
  static bool is_split(const Json& step) {
    static const std::string kWords = R"('s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+)";
    const Json& expression = part(part(step, "pattern"), "Regex");
    return part(step, "type") == "Split" && part(step, "behavior") == "Removed" &&
           part(step, "invert") == true &&
           (expression == kWords || expression == R"(<\|startoftext\|>|<\|endoftext\|>|)" + kWords);
  }

  void check_text() const {
    static const Json kSteps = {{{"type", "NFC"}},
                                {{"type", "Replace"}, {"pattern", {{"Regex", "\\s+"}}}, {"content", " "}},
                                {{"type", "Lowercase"}}};
    if (part(part(file_, "normalizer"), "normalizers") != kSteps)
      refuse("normalizer", part(file_, "normalizer"),
             "is not supported (only NFC, one space for white space, lower case)");
    const Json& steps = part(part(file_, "pre_tokenizer"), "pretokenizers");
    const bool two = steps.is_array() && steps.size() == 2;
    if (!two || !is_split(steps[0]) || part(steps[1], "type") != "ByteLevel" ||
        part(steps[1], "add_prefix_space") != false)
      refuse("pre_tokenizer", part(file_, "pre_tokenizer"),
             "is not supported (only CLIP's Split, then ByteLevel)");
    const Json& post = part(file_, "post_processor");
    if (!post.is_null() && part(post, "type") != "RobertaProcessing")
      refuse("post_processor", post, "is not supported (only RobertaProcessing)");
    for (const char* key : {"truncation", "padding"})
      only(part(file_, key), std::string(key) + ".", "direction", "Right");
  }

  Bpe::Merges read_merges(const Json& rows) const {
    if (!rows.is_array()) refuse("model.merges", rows, "should be a list of pairs");
    Bpe::Merges merges;
    merges.reserve(rows.size());
    for (const Json& row : rows) {
      const std::string key = fmt::format("model.merges[{}]", merges.size());
      if (row.is_string())
        merges.push_back(merge_of(row.get_ref<const std::string&>(), where_ + ": " + key));
      else if (row.is_array() && row.size() == 2 && row[0].is_string() && row[1].is_string())
        merges.emplace_back(row[0].get<std::string>(), row[1].get<std::string>());
      else
        refuse(key, row, "should be two symbols");
    }
    return merges;
  }

  const Json& file_;
  const std::string& where_;
};

}  // namespace

Vocabulary vocabulary_from_json(const Json& file, const std::string& where) {
  return JsonReader(file, where).read();
}

Vocabulary vocabulary_from_files(const std::filesystem::path& vocab, const std::filesystem::path& merges) {
  Vocabulary vocabulary = {ids_of(read_json(vocab), vocab.string()), {}, vocab.string(), merges.string()};
  std::ifstream stream(merges, std::ios::binary);
  if (!stream)
    throw Error(fmt::format("{}: cannot be read", merges.string()), "vocab.json alone does not tell the ids");
  std::string line;
  for (int64_t number = 1; std::getline(stream, line); ++number) {
    if (line.ends_with('\r')) line.pop_back();
    const std::string what = fmt::format("{}: line {}", merges.string(), number);
    if (first_invalid_byte(line)) throw Error(what + " is not UTF-8", kAgain);
    if (!line.starts_with("#version")) vocabulary.merges.push_back(merge_of(line, what));
  }
  return vocabulary;
}

}  // namespace sagelab::clip
