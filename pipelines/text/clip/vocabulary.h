// SPDX-License-Identifier: Apache-2.0
// The two forms of CLIP's vocabulary: tokenizer.json (what transformers 5 saves), and vocab.json with
// merges.txt.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "pipelines/text/bpe/vocabulary.h"

namespace sagelab::clip {

// Of a word's last symbol, in every CLIP vocabulary: CLIPTokenizer has it, whatever a file says.
inline constexpr const char* kSuffix = "</w>";

// Both throw sagelab::Error naming the file and what is malformed or not supported.
BpeVocabulary vocabulary_from_json(const nlohmann::json& file, const std::string& where);
BpeVocabulary vocabulary_from_files(const std::filesystem::path& vocab, const std::filesystem::path& merges);

}  // namespace sagelab::clip
