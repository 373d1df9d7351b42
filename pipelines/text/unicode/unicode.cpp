// SPDX-License-Identifier: Apache-2.0
#include "pipelines/text/unicode/unicode.h"

#include <unicode/uchar.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <span>

#include "pipelines/text/unicode/tables.h"

namespace sagelab::unicode {
namespace {

uint8_t byte_at(std::string_view text, size_t i) {
  return uint8_t(text[i]);
}

// Length of the sequence that starts with a lead byte.
size_t sequence_length(uint8_t lead) {
  if (lead < 0x80) return 1;
  return lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

// What UAX 29 wants to know of one code point.
struct Properties {
  UGraphemeClusterBreak gcb;
  bool pictographic;
  bool extends;                              // Extend or ZWJ
  bool conjunct_extends, consonant, linker;  // Indic_Conjunct_Break
};

UGraphemeClusterBreak cluster_break(char32_t c) {
  if (const auto* range = find_range<BreakRange>(kNewBreaks, c)) return range->gcb;
  return UGraphemeClusterBreak(u_getIntPropertyValue(UChar32(c), UCHAR_GRAPHEME_CLUSTER_BREAK));
}

// Unicode 17 took the property from what is assigned and no emoji.
bool is_pictographic(char32_t c) {
  return u_hasBinaryProperty(UChar32(c), UCHAR_EXTENDED_PICTOGRAPHIC) &&
         (u_hasBinaryProperty(UChar32(c), UCHAR_EMOJI) || u_charType(UChar32(c)) == U_UNASSIGNED) &&
         !find_range<Range>(kNewPlainSymbols, c);
}

Properties properties(char32_t c) {
  const UGraphemeClusterBreak gcb = cluster_break(c);
  const bool extends = gcb == U_GCB_EXTEND || gcb == U_GCB_ZWJ;
  return {.gcb = gcb,
          .pictographic = is_pictographic(c),
          .extends = extends,
          .conjunct_extends = extends && c != 0x200C,
          .consonant = find_range<Range>(kConjunctConsonants, c) != nullptr,
          .linker = std::find(std::begin(kLinkers), std::end(kLinkers), c) != std::end(kLinkers)};
}

bool is_control(UGraphemeClusterBreak gcb) {
  return gcb == U_GCB_CONTROL || gcb == U_GCB_CR || gcb == U_GCB_LF;
}

bool hangul_continues(UGraphemeClusterBreak left, UGraphemeClusterBreak right) {
  if (left == U_GCB_L) return right == U_GCB_L || right == U_GCB_V || right == U_GCB_LV || right == U_GCB_LVT;
  if (left == U_GCB_LV || left == U_GCB_V) return right == U_GCB_V || right == U_GCB_T;
  if (left == U_GCB_LVT || left == U_GCB_T) return right == U_GCB_T;
  return false;
}

// The state of a cluster that is being read: what the rules that look back further than one code point need.
struct Cluster {
  UGraphemeClusterBreak last;
  int flags = 0;              // regional indicators so far
  bool pictographic = false;  // ExtPict Extend* ZWJ* so far (GB11)
  bool consonant = false;     // consonant [Extend Linker]* so far (GB9c)
  bool linked = false;        // ... with a linker among them

  explicit Cluster(const Properties& first) : last(first.gcb) { look(first); }

  bool takes(const Properties& next) const {
    if (last == U_GCB_CR && next.gcb == U_GCB_LF) return true;                 // GB3
    if (is_control(last) || is_control(next.gcb)) return false;                // GB4, GB5
    if (hangul_continues(last, next.gcb)) return true;                         // GB6 to GB8
    if (next.gcb == U_GCB_EXTEND || next.gcb == U_GCB_ZWJ) return true;        // GB9
    if (next.gcb == U_GCB_SPACING_MARK || last == U_GCB_PREPEND) return true;  // GB9a, GB9b
    if (linked && next.consonant) return true;                                 // GB9c
    if (last == U_GCB_ZWJ && pictographic && next.pictographic) return true;   // GB11
    return next.gcb == U_GCB_REGIONAL_INDICATOR && flags % 2 == 1;             // GB12, GB13
  }

  void look(const Properties& p) {
    pictographic = p.pictographic || (pictographic && p.extends && last != U_GCB_ZWJ);
    linked = (linked && p.conjunct_extends) || (consonant && p.linker);
    consonant = p.consonant || (consonant && p.conjunct_extends);
    flags = p.gcb == U_GCB_REGIONAL_INDICATOR ? flags + 1 : 0;
    last = p.gcb;
  }
};

}  // namespace

CodePoint code_point(std::string_view text, size_t at) {
  const uint8_t lead = byte_at(text, at);
  const size_t n = sequence_length(lead);
  char32_t c = n == 1 ? lead : lead & (0x7F >> n);
  for (size_t k = 1; k < n; ++k) c = c << 6 | (byte_at(text, at + k) & 0x3F);
  return {c, n};
}

size_t previous(std::string_view text, size_t end) {
  do --end;
  while (end > 0 && (byte_at(text, end) & 0xC0) == 0x80);
  return end;
}

bool is_whitespace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool is_word(char32_t c) {
  const uint32_t category = U_GET_GC_MASK(UChar32(c));
  return (category & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) != 0 ||
         u_hasBinaryProperty(UChar32(c), UCHAR_ALPHABETIC) || c == 0x200C || c == 0x200D;
}

size_t run_end(std::string_view text, size_t at, bool (*kind)(char32_t)) {
  while (at < text.size()) {
    const CodePoint c = code_point(text, at);
    if (!kind(c.value)) break;
    at += c.bytes;
  }
  return at;
}

size_t cluster_end(std::string_view text, size_t at) {
  CodePoint c = code_point(text, at);
  at += c.bytes;
  // Of two ASCII characters only CR LF belong together.
  if (c.value < 0x80 && at < text.size() && byte_at(text, at) < 0x80)
    return c.value == '\r' && text[at] == '\n' ? at + 1 : at;
  Cluster cluster(properties(c.value));
  while (at < text.size()) {
    c = code_point(text, at);
    const Properties next = properties(c.value);
    if (!cluster.takes(next)) break;
    cluster.look(next);
    at += c.bytes;
  }
  return at;
}

}  // namespace sagelab::unicode
