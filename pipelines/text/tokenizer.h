// SPDX-License-Identifier: Apache-2.0
// Text to ids, from the checkpoint's own files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string_view>
#include <vector>

namespace sagelab {

struct Tokens {
  std::vector<int64_t> ids;  // padded to max_length
  int64_t length = 0;        // before padding, end token included
  bool truncated = false;
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  // As transformers with padding="max_length", truncation=True, add_special_tokens=True.
  // Throws sagelab::Error for text that is not UTF-8, naming the byte.
  virtual Tokens encode(std::string_view text, int64_t max_length) const = 0;
};

// T5Tokenizer's folder: tokenizer.json, or spiece.model. Throws sagelab::Error naming what is missing or
// malformed.
std::unique_ptr<Tokenizer> open_t5_tokenizer(const std::filesystem::path& folder);

}  // namespace sagelab
