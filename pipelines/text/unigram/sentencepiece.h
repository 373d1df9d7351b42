// SPDX-License-Identifier: Apache-2.0
// A spiece.model: SentencePiece's ModelProto, in protobuf's wire format. Only the fields that a tokenizer
// needs.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "pipelines/text/unigram/unigram.h"

namespace sagelab {

struct SentencePieceModel {
  enum Type { Normal = 1, Unknown = 2, Control = 3, UserDefined = 4, Unused = 5, Byte = 6 };
  enum ModelType { UnigramModel = 1, Bpe = 2, Word = 3, Char = 4 };

  std::vector<Piece> pieces;
  std::vector<int> types;  // of each piece
  // trainer_spec
  int64_t model_type = UnigramModel;
  bool byte_fallback = false, whitespace_as_suffix = false;
  // normalizer_spec
  std::string character_map;
  bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;
};

// Throws sagelab::Error with the byte offset for a file that is truncated or no such message. The
// normalizer_spec comes after all pieces: without one the file is incomplete, even where it ends between two
// pieces.
SentencePieceModel parse_sentencepiece(std::string_view bytes, const std::string& where);
SentencePieceModel read_sentencepiece(const std::filesystem::path& file);

}  // namespace sagelab
