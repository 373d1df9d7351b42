// SPDX-License-Identifier: Apache-2.0
#include "pipelines/text/unigram/sentencepiece.h"

#include <fmt/format.h>

#include <bit>
#include <fstream>
#include <sstream>
#include <utility>

#include "attention/error.h"
#include "pipelines/core/utf8.h"

namespace sagelab {
namespace {

enum class Wire { Varint = 0, Fixed64 = 1, Bytes = 2, Fixed32 = 5 };

// One message of protobuf's wire format, field by field: `while (message.next())`.
class Message {
 public:
  // start: the offset of the message in the file.
  Message(std::string_view bytes, size_t start, const std::string& where)
      : bytes_(bytes), start_(start), where_(where) {}

  // Goes to the next field; false at the end.
  bool next() {
    if (at_ == bytes_.size()) return false;
    field_start_ = at_;
    const uint64_t tag = varint();
    field_ = tag >> 3;
    wire_ = Wire(tag & 7);
    if (field_ == 0 || tag > 0xFFFFFFFF) damaged("bad field number");
    switch (wire_) {
      case Wire::Varint:
        number_ = varint();
        break;
      case Wire::Fixed64:
        take(8);
        break;
      case Wire::Bytes:
        payload_ = take(varint());
        break;
      case Wire::Fixed32:
        payload_ = take(4);
        break;
      default:
        damaged("unknown wire type");
    }
    return true;
  }

  uint64_t field() const { return field_; }
  uint64_t number() const { return expect(Wire::Varint), number_; }
  bool flag() const { return number() != 0; }
  std::string_view bytes() const { return expect(Wire::Bytes), payload_; }
  Message message() const { return {bytes(), start_ + size_t(payload_.data() - bytes_.data()), where_}; }
  float real() const {
    expect(Wire::Fixed32);
    uint32_t bits = 0;
    for (int k = 3; k >= 0; --k) bits = bits << 8 | uint8_t(payload_[size_t(k)]);
    return std::bit_cast<float>(bits);
  }
  std::string text() const {
    if (first_invalid_byte(bytes())) damaged("text that is not UTF-8");
    return std::string(payload_);
  }

 private:
  [[noreturn]] void damaged(const char* what) const {
    throw Error(
        fmt::format("{}: not a SentencePiece model: {} at byte {}", where_, what, start_ + field_start_),
        "the file is damaged or incomplete; download it again");
  }
  void expect(Wire wire) const {
    if (wire_ != wire) damaged("a field of the wrong type");
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      if (at_ == bytes_.size()) damaged("the end of the data inside a field");
      const auto byte = uint8_t(bytes_[at_++]);
      value |= uint64_t(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    damaged("a number of more than 10 bytes");
  }
  std::string_view take(uint64_t size) {
    if (size > bytes_.size() - at_) damaged("the end of the data inside a field");
    const std::string_view taken = bytes_.substr(at_, size);
    at_ += size;
    return taken;
  }

  std::string_view bytes_;
  size_t start_;
  const std::string& where_;
  size_t at_ = 0, field_start_ = 0;
  uint64_t field_ = 0, number_ = 0;
  Wire wire_ = Wire::Varint;
  std::string_view payload_;
};

void read_piece(Message message, SentencePieceModel& model) {
  Piece piece;
  int type = SentencePieceModel::Normal;
  while (message.next()) {
    if (message.field() == 1) piece.text = message.text();
    if (message.field() == 2) piece.score = message.real();
    if (message.field() == 3) type = int(message.number());
  }
  model.pieces.push_back(std::move(piece));
  model.types.push_back(type);
}

void read_trainer(Message message, SentencePieceModel& model) {
  while (message.next()) {
    if (message.field() == 3) model.model_type = int64_t(message.number());
    if (message.field() == 24) model.whitespace_as_suffix = message.flag();
    if (message.field() == 35) model.byte_fallback = message.flag();
  }
}

void read_normalizer(Message message, SentencePieceModel& model) {
  while (message.next()) {
    if (message.field() == 2) model.character_map = message.bytes();
    if (message.field() == 3) model.add_dummy_prefix = message.flag();
    if (message.field() == 4) model.remove_extra_whitespaces = message.flag();
    if (message.field() == 5) model.escape_whitespaces = message.flag();
  }
}

}  // namespace

SentencePieceModel parse_sentencepiece(std::string_view bytes, const std::string& where) {
  SentencePieceModel model;
  bool complete = false;
  Message message(bytes, 0, where);
  while (message.next()) {
    if (message.field() == 1) read_piece(message.message(), model);
    if (message.field() == 2) read_trainer(message.message(), model);
    if (message.field() == 3) read_normalizer(message.message(), model);
    complete = complete || message.field() == 3;
  }
  if (!complete)
    throw Error(fmt::format("{}: not a whole SentencePiece model: it has no normalizer_spec", where),
                "the file is damaged or incomplete; download it again");
  return model;
}

SentencePieceModel read_sentencepiece(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream bytes;
  if (stream) bytes << stream.rdbuf();
  if (!stream) throw Error(fmt::format("{}: cannot be read", file.string()));
  return parse_sentencepiece(bytes.view(), file.string());
}

}  // namespace sagelab
