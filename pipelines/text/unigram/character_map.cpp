// SPDX-License-Identifier: Apache-2.0
#include "pipelines/text/unigram/character_map.h"

#include <fmt/format.h>

#include <utility>

#include "attention/error.h"
#include "pipelines/core/utf8.h"
#include "pipelines/text/unicode/unicode.h"

namespace sagelab {
namespace {

// A unit of darts-clone's double array.
bool has_leaf(uint32_t unit) {
  return (unit >> 8 & 1) != 0;
}
uint32_t value(uint32_t unit) {
  return unit & 0x7FFFFFFF;
}
uint32_t label(uint32_t unit) {
  return unit & 0x800000FF;
}
uint32_t offset(uint32_t unit) {
  return (unit >> 10) << ((unit & 0x200) >> 6);
}

uint32_t little_endian(std::string_view bytes, size_t at) {
  uint32_t n = 0;
  for (int k = 3; k >= 0; --k) n = n << 8 | uint8_t(bytes[at + k]);
  return n;
}

}  // namespace

CharacterMap::CharacterMap(std::string_view blob, std::string where) : where_(std::move(where)) {
  if (blob.size() < 4) damaged("it is shorter than its header");
  const uint32_t size = little_endian(blob, 0);
  if (size > blob.size() - 4) damaged("its trie reaches beyond its end");
  if (size < 4 || size % 4 != 0) damaged("the size of its trie is no multiple of 4");
  trie_.resize(size / 4);
  for (size_t i = 0; i < trie_.size(); ++i) trie_[i] = little_endian(blob, 4 + 4 * i);
  replacements_ = blob.substr(4 + size);
  if (first_invalid_byte(replacements_)) damaged("its replacements are not UTF-8");
}

void CharacterMap::damaged(const char* what) const {
  throw Error(fmt::format("{}: the character map is damaged: {}", where_, what), "download the file again");
}

uint32_t CharacterMap::unit(uint32_t index) const {
  if (index >= trie_.size()) damaged("its trie points outside itself");
  return trie_[index];
}

std::string_view CharacterMap::replacement(uint32_t at) const {
  if (at > replacements_.size()) damaged("its trie points outside the replacements");
  const std::string_view text = std::string_view(replacements_).substr(at);
  if (!text.empty() && (uint8_t(text[0]) & 0xC0) == 0x80) damaged("its trie points into a character");
  return text.substr(0, text.find('\0'));
}

// The replacement of the shortest key that chunk starts with, for the whole of chunk: so does `tokenizers`.
std::optional<std::string_view> CharacterMap::find(std::string_view chunk) const {
  uint32_t node = offset(unit(0));
  for (const char c : chunk) {
    if (c == '\0') return std::nullopt;
    node ^= uint8_t(c);
    const uint32_t u = unit(node);
    if (label(u) != uint8_t(c)) return std::nullopt;
    node ^= offset(u);
    if (has_leaf(u)) return replacement(value(unit(node)));
  }
  return std::nullopt;
}

std::string CharacterMap::normalize(std::string_view text) const {
  if (trie_.empty()) return std::string(text);
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t end = unicode::cluster_end(text, at);
    const std::string_view cluster = text.substr(at, end - at);
    at = end;
    // Only clusters below 6 bytes are looked up whole.
    if (cluster.size() < 6) {
      if (const auto mapped = find(cluster)) {
        out += *mapped;
        continue;
      }
    }
    for (size_t i = 0; i < cluster.size();) {
      const std::string_view one = cluster.substr(i, unicode::code_point(cluster, i).bytes);
      out += find(one).value_or(one);
      i += one.size();
    }
  }
  return out;
}

}  // namespace sagelab
