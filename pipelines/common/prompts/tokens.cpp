// SPDX-License-Identifier: Apache-2.0
#include "pipelines/common/prompts/tokens.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "attention/error.h"

namespace sagelab {

at::Tensor ids_of(const Tokens& tokens, const at::Device& device) {
  return at::tensor(tokens.ids, at::kLong).unsqueeze(0).to(device);
}

Tokens checked(Tokens tokens, const TokenPath& path) {
  for (const int64_t id : tokens.ids)
    if (id >= path.vocabulary)
      throw Error(fmt::format("{}: the prompt has token {}, but {} says vocab_size = {}",
                              (path.root / path.tokenizer).string(), id,
                              (path.root / path.encoder / "config.json").string(), path.vocabulary),
                  "the tokenizer belongs to another model than the text encoder");
  return tokens;
}

}  // namespace sagelab
