// SPDX-License-Identifier: Apache-2.0
// The vocabulary and the merges of a byte-level BPE, and the reading of tokenizer.json part by part.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "pipelines/text/bpe/bpe.h"

namespace sagelab {

struct BpeVocabulary {
  Bpe::Vocabulary ids;
  Bpe::Merges merges;
  std::string ids_file, merges_file;  // for messages
};

// What a download that went wrong leaves behind.
inline constexpr const char* kDamagedVocabulary = "the file is damaged; download the tokenizer again";

// Both throw sagelab::Error; what: the file and the part of it, for messages.
Bpe::Vocabulary bpe_ids(const nlohmann::json& vocab, const std::string& what);
// "left right", with one space between them.
std::pair<std::string, std::string> bpe_merge(std::string_view text, const std::string& what);

// tokenizer.json with a BPE. What is not supported is refused by its name, as sagelab::Error.
class BpeJson {
 public:
  BpeJson(const nlohmann::json& file, std::string where);

  // A member; null where it is absent.
  static const nlohmann::json& part(const nlohmann::json& object, const char* key);
  const nlohmann::json& part(const char* key) const { return part(file_, key); }
  [[noreturn]] void refuse(const std::string& key, const nlohmann::json& value, std::string_view why) const;
  // Honoured at one value alone; absent or null is that value. path: of the object, with a dot behind.
  void only(const nlohmann::json& object, const std::string& path, const char* key,
            const nlohmann::json& supported) const;
  // Texts are cut and padded on the right.
  void require_right_sides() const;
  BpeVocabulary read() const;
  const std::string& where() const { return where_; }

 private:
  const nlohmann::json& file_;
  std::string where_;
};

}  // namespace sagelab
