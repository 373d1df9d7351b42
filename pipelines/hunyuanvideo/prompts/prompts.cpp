// SPDX-License-Identifier: Apache-2.0
#include "pipelines/hunyuanvideo/prompts/prompts.h"

#include <fmt/format.h>

#include <algorithm>

#include "attention/error.h"
#include "pipelines/common/prompts/tokens.h"
#include "pipelines/hunyuanvideo/pipeline.h"
#include "pipelines/text/clip/tokenizer.h"
#include "pipelines/text/llama/tokenizer.h"

namespace sagelab::hunyuanvideo {
namespace {

// diffusers' DEFAULT_PROMPT_TEMPLATE, letter by letter.
constexpr const char* kFront =
    "<|start_header_id|>system<|end_header_id|>\n\nDescribe the video by detailing the following aspects: "
    "1. The main content and theme of the video."
    "2. The color, shape, size, texture, quantity, text, and spatial relationships of the objects."
    "3. Actions, events, behaviors temporal relationships, physical movement changes of the objects."
    "4. background environment, light, style and atmosphere."
    "5. camera angles, movements, and transitions used in the video:<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n";
constexpr const char* kBack = "<|eot_id|>";

}  // namespace

std::vector<Text> texts_of(const Request& request) {
  const int64_t length = std::get<int64_t>(option_value(request, options(), "max_sequence_length"));
  if (!is_guided(request)) return {{request.prompt, length}};
  return {{request.negative_prompt, length}, {request.prompt, length}};
}

Tokenizers::Tokenizers(const Folder& folder)
    : folder_(folder),
      llama_(open_llama_tokenizer(folder.root / "tokenizer")),
      clip_(open_clip_tokenizer(folder.root / "tokenizer_2")),
      clip_length_(folder.clip_rows()) {}

TextTokens Tokenizers::operator()(const Text& text) const {
  const std::filesystem::path& root = folder_.root;
  const TextTokens tokens = {checked(llama_->encode(kFront + text.first + kBack, kTemplateRows + text.second),
                                     {root, "tokenizer", "text_encoder", folder_.llama.vocab_size}),
                             checked(clip_->encode(text.first, clip_length_),
                                     {root, "tokenizer_2", "text_encoder_2", folder_.clip.vocab_size})};
  if (tokens.rows() < 1)
    throw Error(
        fmt::format("{}: a prompt in its template has {} tokens, and {} of them should be the template's",
                    (root / "tokenizer").string(), tokens.llama.length, kTemplateRows),
        "the tokenizer belongs to another model");
  return tokens;
}

}  // namespace sagelab::hunyuanvideo
