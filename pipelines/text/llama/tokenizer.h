// SPDX-License-Identifier: Apache-2.0
// Llama 3's tokenizer, from a folder's tokenizer.json.
#pragma once

#include <filesystem>
#include <memory>

#include "pipelines/text/tokenizer.h"

namespace sagelab {

// Tokens are <start> ... without an end token, cut to max_length (at least 1), then padded on the right with
// the folder's own pad token. The ids are those that Hugging Face's `tokenizers` gives for the file. Throws
// sagelab::Error naming what is missing, malformed or not supported.
std::unique_ptr<Tokenizer> open_llama_tokenizer(const std::filesystem::path& folder);

}  // namespace sagelab
