// SPDX-License-Identifier: Apache-2.0
#include "pipelines/text/bpe/pieces.h"

#include <fmt/format.h>

#include <utility>

#include "attention/error.h"

namespace sagelab {

BpeTokens::BpeTokens(BpeVocabulary from, const std::vector<TokenSpec>& specs, std::set<std::string> numbered)
    : vocabulary(std::move(from)),
      added(with_ids(specs, int64_t(vocabulary.ids.size()),
                     [&](const std::string& content) {
                       const auto found = vocabulary.ids.find(content);
                       return found == vocabulary.ids.end() ? -1 : found->second;
                     })),
      numbered(std::move(numbered)) {}

int64_t BpeTokens::id(std::string_view key, const std::string& content) const {
  const auto token = added.find(content);
  if (token == added.end() || !(vocabulary.ids.contains(content) || numbered.contains(content)))
    throw Error(fmt::format("{}: {} \"{}\" is not in the vocabulary", vocabulary.ids_file, key, content),
                "the vocabulary is cut short, or another tokenizer's; download the tokenizer again");
  return token->second.id;
}

BpePieces::BpePieces(BpeTokens tokens, const Bpe::Options& options, const Steps& steps)
    : bpe_(std::move(tokens.vocabulary.ids), tokens.vocabulary.merges, options,
           tokens.vocabulary.merges_file),
      added_(added_tokens(tokens.added, steps.normalize, tokens.vocabulary.ids_file)),
      steps_(steps) {}

void BpePieces::encode(std::string_view text, std::vector<int64_t>& ids) const {
  for (const Fragment& raw : added_.split(text, false)) {
    if (raw.id >= 0) {
      ids.push_back(raw.id);
      continue;
    }
    const std::string normalized = steps_.normalize(raw.text);
    for (const Fragment& part : added_.split(normalized, true)) {
      if (part.id >= 0) {
        ids.push_back(part.id);
        continue;
      }
      for (const std::string_view word : steps_.words(part.text)) bpe_.encode(word, ids);
    }
  }
}

}  // namespace sagelab
