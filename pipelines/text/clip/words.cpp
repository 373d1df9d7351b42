// SPDX-License-Identifier: Apache-2.0
#include "pipelines/text/clip/words.h"

#include <c10/util/Exception.h>
#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/uniset.h>

#include "pipelines/text/unicode/classes.h"
#include "pipelines/text/unicode/unicode.h"

namespace sagelab::clip {
namespace {

struct Composer {
  icu::UnicodeSet known;
  const icu::Normalizer2* nfc = nullptr;
  Composer() {
    UErrorCode error = U_ZERO_ERROR;
    nfc = icu::Normalizer2::getNFCInstance(error);
    known.applyPattern(UNICODE_STRING_SIMPLE("[:age=9.0:]"), error).freeze();
    TORCH_CHECK(U_SUCCESS(error), "ICU has no NFC: ", u_errorName(error));
  }
};

std::string composed(std::string_view text) {
  std::string out;
  icu::StringByteSink<std::string> sink(&out, int32_t(text.size()));
  UErrorCode error = U_ZERO_ERROR;
  static const Composer composer;
  const icu::FilteredNormalizer2 filtered(*composer.nfc, composer.known);
  filtered.normalizeUTF8(0, icu::StringPiece(text.data(), int32_t(text.size())), sink, nullptr, error);
  TORCH_CHECK(U_SUCCESS(error), "ICU could not compose a text of ", text.size(),
              " bytes: ", u_errorName(error));
  return out;
}

void append(std::string& out, char32_t c) {
  const auto put = [&](char32_t byte) { out.push_back(char(byte)); };
  const auto rest = [&](int shift) { put(0x80 | (c >> shift & 0x3F)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6), rest(0);
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12), rest(6), rest(0);
  } else {
    put(0xF0 | c >> 18), rest(12), rest(6), rest(0);
  }
}

// Length of the contraction at the front of text; 0: none. The order is the expression's.
size_t contraction(std::string_view text) {
  for (const std::string_view ending : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"})
    if (text.starts_with(ending)) return ending.size();
  return 0;
}

}  // namespace

std::string normalize(std::string_view text) {
  const std::string nfc = composed(text);
  std::string out;
  out.reserve(nfc.size());
  bool space = false;
  for (size_t at = 0; at < nfc.size();) {
    const unicode::CodePoint c = unicode::code_point(nfc, at);
    at += c.bytes;
    const bool white = unicode::is_whitespace(c.value);
    if (!white)
      append(out, unicode::lower_case(c.value));
    else if (!space)
      out.push_back(' ');
    if (c.value == 0x130) out.replace(out.size() - 2, 2, "i\u0307");
    space = white;
  }
  return out;
}

std::vector<std::string_view> words(std::string_view text) {
  std::vector<std::string_view> found;
  for (size_t at = 0; at < text.size();) {
    const std::string_view rest = text.substr(at);
    const unicode::CodePoint c = unicode::code_point(text, at);
    size_t end = at + c.bytes;
    const bool start = rest.starts_with("<|startoftext|>");
    if (start || rest.starts_with("<|endoftext|>")) {
      const size_t name = start ? 11 : 9;
      found.insert(found.end(), {rest.substr(0, 2), rest.substr(2, name), rest.substr(2 + name, 2)});
      at += name + 4;
      continue;
    }
    if (const size_t length = contraction(rest)) {
      end = at + length;
    } else if (unicode::is_letter(c.value)) {
      end = unicode::run_end(text, end, unicode::is_letter);
    } else if (unicode::is_other(c.value)) {
      end = unicode::run_end(text, end, unicode::is_other);
    }
    if (!unicode::is_whitespace(c.value)) found.push_back(text.substr(at, end - at));
    at = end;
  }
  return found;
}

}  // namespace sagelab::clip
