// SPDX-License-Identifier: Apache-2.0
// What tokenizer_config.json, special_tokens_map.json and added_tokens.json say to transformers 5's
// CLIPTokenizer: which tokens are cut out of the text, and which of them start, end and pad it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "pipelines/text/token_files.h"

namespace sagelab::clip {

struct Settings {
  std::string bos = "<|startoftext|>", eos = "<|endoftext|>", unk = "<|endoftext|>", pad = "<|endoftext|>";
  std::optional<int64_t> model_max_length;
  // In the order in which transformers adds them; where a content occurs twice, the last one counts.
  std::vector<TokenSpec> added;
  std::set<std::string> numbered;  // of those, the ones that a file has an id for
};

// tokenizer_json: the parsed file, or null where the folder has vocab.json and merges.txt. Throws
// sagelab::Error naming the file and the key that is not supported.
Settings read_settings(const std::filesystem::path& folder, const nlohmann::json* tokenizer_json);

}  // namespace sagelab::clip
