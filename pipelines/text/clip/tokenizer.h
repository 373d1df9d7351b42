// SPDX-License-Identifier: Apache-2.0
// CLIP's tokenizer (transformers 5's CLIPTokenizer, which is CLIPTokenizerFast).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>

#include "pipelines/text/tokenizer.h"

namespace sagelab {

// CLIPTokenizer's folder: tokenizer.json, or vocab.json with merges.txt. Tokens are
// <|startoftext|> ... <|endoftext|>, cut to max_length (at least 2) with both kept, then padded with the
// folder's own pad token: <|endoftext|>, or "!" in the second tokenizer of SD3 and SDXL, which is then cut
// out of prompts and is a token of its own. Throws sagelab::Error naming what is missing or malformed.
std::unique_ptr<Tokenizer> open_clip_tokenizer(const std::filesystem::path& folder);

// The folder's model_max_length, which diffusers pads to; nothing where the folder sets no limit.
std::optional<int64_t> clip_model_max_length(const std::filesystem::path& folder);

}  // namespace sagelab
