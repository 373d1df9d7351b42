// SPDX-License-Identifier: Apache-2.0
// The two forms of T5's vocabulary: tokenizer.json (what transformers 5 saves) and spiece.model.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pipelines/text/token_files.h"
#include "pipelines/text/unigram/unigram.h"

namespace sagelab {

// T5Tokenizer takes number 2 for the unknown piece, whatever a file says; files that say otherwise are
// refused.
inline constexpr int64_t kT5UnknownId = 2;

struct T5Vocabulary {
  std::vector<Piece> pieces;
  std::string character_map;        // the precompiled map; empty: none
  std::vector<TokenSpec> controls;  // control and user-defined pieces of spiece.model
};

// Both throw sagelab::Error naming the file and what is malformed or not supported.
T5Vocabulary vocabulary_from_json(const nlohmann::json& file, const std::string& where);
// Without the sentinels, which are no part of spiece.model.
T5Vocabulary vocabulary_from_spiece(const std::filesystem::path& file);

}  // namespace sagelab
