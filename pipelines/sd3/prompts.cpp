// SPDX-License-Identifier: Apache-2.0
// The texts of a request and their tokens.
#include <ATen/ATen.h>

#include "pipelines/common/prompts/tokens.h"
#include "pipelines/sd3/pipeline.h"
#include "pipelines/text/clip/tokenizer.h"

namespace sagelab::sd3 {

std::vector<Texts> texts_of(const Request& request) {
  const auto text = [&](const char* name) {
    return std::get<std::string>(option_value(request, options(), name));
  };
  const auto count = [&](const char* name) {
    return std::get<int64_t>(option_value(request, options(), name));
  };
  const bool without_t5 = std::get<bool>(option_value(request, options(), "drop_t5"));
  const auto side = [&](const std::string& first, const std::string& second, const std::string& third) {
    Texts texts{first, second.empty() ? first : second, third.empty() ? first : third,
                count("max_sequence_length")};
    if (without_t5) texts.t5.reset();
    return texts;
  };
  std::vector<Texts> texts;
  if (is_guided(request))
    texts.push_back(side(request.negative_prompt, text("negative_prompt_2"), text("negative_prompt_3")));
  texts.push_back(side(request.prompt, text("prompt_2"), text("prompt_3")));
  texts.back().clip_skip = count("clip_skip");
  return texts;
}

Tokenizers::Tokenizers(const Folder& folder)
    : folder_(folder),
      clip_l_(open_clip_tokenizer(folder.root / "tokenizer")),
      clip_g_(open_clip_tokenizer(folder.root / "tokenizer_2")) {
  if (folder.t5) t5_ = open_t5_tokenizer(folder.root / "tokenizer_3");
}

TextTokens Tokenizers::operator()(const Texts& texts) const {
  const std::filesystem::path& root = folder_.root;
  TextTokens tokens{checked(clip_l_->encode(texts.clip_l, folder_.clip_length),
                            {root, "tokenizer", "text_encoder", folder_.clip_l.vocab_size}),
                    checked(clip_g_->encode(texts.clip_g, folder_.clip_length),
                            {root, "tokenizer_2", "text_encoder_2", folder_.clip_g.vocab_size}),
                    {},
                    texts.t5_length,
                    texts.clip_skip};
  if (texts.t5)
    tokens.t5 = checked(t5_->encode(*texts.t5, texts.t5_length),
                        {root, "tokenizer_3", "text_encoder_3", folder_.t5->vocab_size});
  return tokens;
}

}  // namespace sagelab::sd3
