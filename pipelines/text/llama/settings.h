// SPDX-License-Identifier: Apache-2.0
// What tokenizer_config.json, special_tokens_map.json and added_tokens.json say besides tokenizer.json: as
// PreTrainedTokenizerFast of transformers takes it, and LlamaTokenizerFast of transformers 4. (In
// transformers 5 a class of that name puts another pre-tokenizer in the place of the file's, and gives wrong
// ids.)
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "pipelines/text/token_files.h"

namespace sagelab::llama {

struct Settings {
  std::string pad;
  std::optional<std::string> bos;  // where a file names it
  std::vector<TokenSpec> added;    // in the order in which they are added
  std::set<std::string> numbered;  // of those, the ones that a file has an id for
};

// Throws sagelab::Error naming the file and the key that is missing or not supported.
Settings read_settings(const std::filesystem::path& folder, const nlohmann::json& tokenizer_json);

}  // namespace sagelab::llama
