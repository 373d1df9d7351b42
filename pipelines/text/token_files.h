// SPDX-License-Identifier: Apache-2.0
// What tokenizer_config.json, special_tokens_map.json, added_tokens.json and tokenizer.json say to
// transformers 5 about the tokens that are cut out of a text, whatever the class of the tokenizer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pipelines/text/added_tokens.h"

namespace sagelab {

// An added token as a file has it: where `normalized` is absent, it is the opposite of `special`.
struct TokenSpec {
  std::string content;
  bool single_word = false, lstrip = false, rstrip = false, special = false;
  std::optional<bool> normalized;
};

// A file of the folder and the key being read.
struct TokenPlace {
  std::string file, key;
  // Throws sagelab::Error.
  [[noreturn]] void refuse(const nlohmann::json& value, std::string_view why) const;
};

// What one class of transformers' tokenizers makes of those files.
struct TokenizerClass {
  std::string_view name;  // for messages
  // Named tokens ("eos_token") that it has where no file names one, and those that may not be null.
  std::vector<std::pair<std::string_view, std::string_view>> defaults;
  std::vector<std::string_view> required;
  // Reads a key of tokenizer_config.json that is this class's own; false: it is not.
  std::function<bool(const TokenPlace&, const nlohmann::json&)> read_key;
};

struct TokenFiles {
  std::map<std::string, std::optional<TokenSpec>, std::less<>> named;
  std::map<int64_t, TokenSpec> by_id;
  std::set<std::string> numbered;                    // the contents of by_id
  std::optional<std::vector<TokenSpec>> extra;       // of tokenizer_config.json
  std::optional<std::vector<TokenSpec>> additional;  // of special_tokens_map.json
  const std::string& content(std::string_view key) const { return named.find(key)->second->content; }
  // In the order in which transformers adds them: those with ids, the named ones, others. Where a content
  // occurs twice, the last one counts.
  std::vector<TokenSpec> in_order(const std::vector<TokenSpec>& others) const;
};

// tokenizer_json: the parsed file, or null where the folder has none. Throws sagelab::Error naming the file
// and the key that is not supported.
TokenFiles read_token_files(const std::filesystem::path& folder, const nlohmann::json* tokenizer_json,
                            const TokenizerClass& tokenizer);

// The tokens that a tokenizer.json lists itself, in its order, whatever other files say. Throws likewise.
std::vector<TokenSpec> tokenizer_json_tokens(const std::filesystem::path& folder,
                                             const nlohmann::json& tokenizer_json);

// Tokens by content, with their ids as add_tokens gives them: a token that the vocabulary has keeps its id,
// others come after the `size` ids of the vocabulary; of two with the same content the last one counts.
// id_of: of the vocabulary; -1 where it has none.
std::map<std::string, AddedToken> with_ids(const std::vector<TokenSpec>& tokens, int64_t size,
                                           const std::function<int64_t(const std::string&)>& id_of);
// Throws sagelab::Error as AddedTokens does.
AddedTokens added_tokens(const std::map<std::string, AddedToken>& tokens,
                         const std::function<std::string(std::string_view)>& normalize,
                         const std::string& where);

}  // namespace sagelab
