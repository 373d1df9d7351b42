// SPDX-License-Identifier: Apache-2.0
// Tokens on their way to a text encoder.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "pipelines/text/tokenizer.h"

namespace sagelab {

at::Tensor ids_of(const Tokens& tokens, const at::Device& device);  // int64 [1, L]

// Where the tokens came from, and where they go.
struct TokenPath {
  std::filesystem::path root;
  const char* tokenizer;
  const char* encoder;
  int64_t vocabulary = 0;  // rows of the encoder's embedding
};
// Throws sagelab::Error for a token that the encoder has no row for.
Tokens checked(Tokens tokens, const TokenPath& path);

}  // namespace sagelab
