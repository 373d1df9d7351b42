// SPDX-License-Identifier: Apache-2.0
// What tokenizer_config.json, special_tokens_map.json and added_tokens.json say to transformers 5's
// T5Tokenizer: which tokens are cut out of the text, and which of them end and pad.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pipelines/text/token_files.h"

namespace sagelab {

struct T5Settings {
  std::string eos = "</s>", pad = "<pad>";
  int64_t extra_ids = 100;
  // In the order in which transformers adds them; where a content occurs twice, the last one counts.
  std::vector<TokenSpec> added;
};

// tokenizer_json: the parsed file, or null where the folder has spiece.model alone; then controls are its
// control and user-defined pieces. Throws sagelab::Error naming the file and the key that is not supported.
T5Settings read_t5_settings(const std::filesystem::path& folder, const nlohmann::json* tokenizer_json,
                            const std::vector<TokenSpec>& controls);

}  // namespace sagelab
