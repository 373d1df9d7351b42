// SPDX-License-Identifier: Apache-2.0
// What HunyuanVideo's encoders read of a text: Llama the text in diffusers' prompt template, CLIP the text
// itself.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pipelines/hunyuanvideo/plan.h"
#include "pipelines/text/tokenizer.h"

namespace sagelab::hunyuanvideo {

// The template's rows in front of the text, which are dropped; behind it there is an end of turn.
inline constexpr int64_t kTemplateRows = 95;
// Layers at Llama's end that are left out, and its last norm.
inline constexpr int64_t kSkippedLayers = 2;

using Text = std::pair<std::string, int64_t>;  // and its rows at most, the template's left out
// [negative,] positive.
std::vector<Text> texts_of(const Request& request);

struct TextTokens {
  Tokens llama, clip;  // llama: with the template's in front
  int64_t rows() const { return llama.length - kTemplateRows; }
};
// Both tokenizers of a folder. Throws sagelab::Error where an encoder has no row for an id, and where the
// template leaves no row: its tokens are not those of the released vocabulary then.
class Tokenizers {
 public:
  explicit Tokenizers(const Folder& folder);
  TextTokens operator()(const Text& text) const;

 private:
  const Folder& folder_;
  std::unique_ptr<Tokenizer> llama_, clip_;
  int64_t clip_length_;
};

}  // namespace sagelab::hunyuanvideo
