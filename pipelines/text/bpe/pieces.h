// SPDX-License-Identifier: Apache-2.0
// A text between its ends, as tokenizers with a byte-level BPE take it: added tokens are cut out of it, what
// is left is normalised and split into words, each word is a sequence of the BPE's tokens.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "pipelines/text/added_tokens.h"
#include "pipelines/text/bpe/vocabulary.h"
#include "pipelines/text/token_files.h"

namespace sagelab {

// A vocabulary with the tokens that are added to it.
struct BpeTokens {
  BpeVocabulary vocabulary;
  std::map<std::string, AddedToken> added;  // by content
  std::set<std::string> numbered;           // those of them that a file has an id for

  // specs: in the order in which they are added.
  BpeTokens(BpeVocabulary from, const std::vector<TokenSpec>& specs, std::set<std::string> numbered);
  // The id of a named token ("pad_token"). Throws sagelab::Error where it is in no file: it would get one
  // that no row of the model's embedding stands for.
  int64_t id(std::string_view key, const std::string& content) const;
};

class BpePieces {
 public:
  struct Steps {
    std::string (*normalize)(std::string_view text);
    std::vector<std::string_view> (*words)(std::string_view normalized);
  };
  // Throws sagelab::Error as Bpe and AddedTokens do.
  BpePieces(BpeTokens tokens, const Bpe::Options& options, const Steps& steps);
  // Appends the ids of well-formed UTF-8.
  void encode(std::string_view text, std::vector<int64_t>& ids) const;

 private:
  Bpe bpe_;
  AddedTokens added_;
  Steps steps_;
};

}  // namespace sagelab
