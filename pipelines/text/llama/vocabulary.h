// SPDX-License-Identifier: Apache-2.0
// Llama 3's tokenizer.json: a byte-level BPE without a normaliser, its words by one expression, the start
// token in front.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "pipelines/text/bpe/vocabulary.h"

namespace sagelab::llama {

struct Vocabulary {
  BpeVocabulary bpe;
  bool ignore_merges = false;
  std::string bos;
  int64_t bos_id = 0;  // as the template has it
};

// Throws sagelab::Error naming the file and what is malformed or not supported.
Vocabulary read_vocabulary(const nlohmann::json& file, const std::string& where);

}  // namespace sagelab::llama
