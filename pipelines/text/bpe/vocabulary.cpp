// SPDX-License-Identifier: Apache-2.0
#include "pipelines/text/bpe/vocabulary.h"

#include <fmt/format.h>

#include "attention/error.h"
#include "pipelines/core/config.h"

namespace sagelab {

using Json = nlohmann::json;

std::pair<std::string, std::string> bpe_merge(std::string_view text, const std::string& what) {
  const size_t space = text.find(' ');
  if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos || space == 0 ||
      space + 1 == text.size())
    throw Error(fmt::format("{} = {} should be two symbols with a space between them", what,
                            shown(std::string(text))),
                kDamagedVocabulary);
  return {std::string(text.substr(0, space)), std::string(text.substr(space + 1))};
}

Bpe::Vocabulary bpe_ids(const Json& vocab, const std::string& what) {
  if (!vocab.is_object() || vocab.empty())
    throw Error(fmt::format("{} = {} should be an object of ids by token", what, shown(vocab)),
                kDamagedVocabulary);
  Bpe::Vocabulary ids;
  ids.reserve(vocab.size());
  for (const auto& [token, id] : vocab.items()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > 0x7FFFFFFF)
      throw Error(fmt::format("{}: \"{}\" has the id {}", what, token, shown(id)), kDamagedVocabulary);
    ids.emplace(token, id.get<int64_t>());
  }
  return ids;
}

BpeJson::BpeJson(const Json& file, std::string where) : file_(file), where_(std::move(where)) {
  if (!file_.is_object()) throw Error(fmt::format("{}: should be a JSON object", where_));
  const Json& type = part(part("model"), "type");
  if (type != "BPE") refuse("model.type", type, "is not supported (only \"BPE\")");
}

const Json& BpeJson::part(const Json& object, const char* key) {
  static const Json kNull;
  const auto found = object.is_object() ? object.find(key) : object.end();
  return found == object.end() ? kNull : *found;
}

void BpeJson::refuse(const std::string& key, const Json& value, std::string_view why) const {
  throw Error(fmt::format("{}: {} = {} {}", where_, key, shown(value), why));
}

void BpeJson::only(const Json& object, const std::string& path, const char* key,
                   const Json& supported) const {
  const Json& value = part(object, key);
  if (!value.is_null() && value != supported)
    refuse(path + key, value, fmt::format("is not supported (only {})", supported.dump()));
}

void BpeJson::require_right_sides() const {
  for (const char* key : {"truncation", "padding"})
    only(part(key), std::string(key) + ".", "direction", "Right");
}

BpeVocabulary BpeJson::read() const {
  const Json& model = part("model");
  BpeVocabulary vocabulary = {bpe_ids(part(model, "vocab"), where_ + ": model.vocab"), {}, where_, where_};
  const Json& rows = part(model, "merges");
  if (!rows.is_array()) refuse("model.merges", rows, "should be a list of pairs");
  vocabulary.merges.reserve(rows.size());
  for (const Json& row : rows) {
    const std::string key = fmt::format("model.merges[{}]", vocabulary.merges.size());
    if (row.is_string())
      vocabulary.merges.push_back(bpe_merge(row.get_ref<const std::string&>(), where_ + ": " + key));
    else if (row.is_array() && row.size() == 2 && row[0].is_string() && row[1].is_string())
      vocabulary.merges.emplace_back(row[0].get<std::string>(), row[1].get<std::string>());
    else
      refuse(key, row, "should be two symbols");
  }
  return vocabulary;
}

}  // namespace sagelab
