// SPDX-License-Identifier: Apache-2.0
#include "app/media/png.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <optional>

#define STB_IMAGE_WRITE_IMPLEMENTATION
#include <stb/stb_image_write.h>

#include "attention/error.h"

namespace sagelab::media {
namespace {

constexpr std::string_view kPngSignature = "\x89PNG\r\n\x1a\n";
constexpr size_t kHeaderBytes = 8 + 25;  // the signature and IHDR: text chunks follow

std::array<uint32_t, 256> crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t n = 0; n < 256; ++n) {
    uint32_t c = n;
    for (int k = 0; k < 8; ++k) c = (c & 1) ? 0xEDB88320u ^ (c >> 1) : c >> 1;
    table[n] = c;
  }
  return table;
}

uint32_t crc(std::string_view bytes) {
  static const auto table = crc_table();
  uint32_t c = 0xFFFFFFFFu;
  for (const unsigned char byte : bytes) c = table[(c ^ byte) & 0xFF] ^ (c >> 8);
  return c ^ 0xFFFFFFFFu;
}

void append_big_endian(std::string& out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(char(value >> shift & 0xFF));
}

std::string chunk(const TextChunk& text) {
  const bool ascii =
      std::all_of(text.text.begin(), text.text.end(), [](unsigned char c) { return c < 0x80; });
  std::string body = ascii ? "tEXt" : "iTXt";
  body += text.keyword;
  body.push_back('\0');
  if (!ascii) body.append(4, '\0');  // not compressed, method 0, no language, no translated keyword
  body += text.text;
  std::string out;
  append_big_endian(out, uint32_t(body.size() - 4));
  out += body;
  append_big_endian(out, crc(body));
  return out;
}

uint32_t big_endian_at(std::string_view bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | uint8_t(bytes[at + i]);
  return value;
}

// body: the keyword, a zero, and in an iTXt chunk two flags, a language and a translated keyword.
std::optional<TextChunk> text_in(std::string_view kind, std::string_view body) {
  const size_t zero = body.find('\0');
  if ((kind != "tEXt" && kind != "iTXt") || zero == std::string_view::npos) return std::nullopt;
  size_t at = zero + 1;
  if (kind == "iTXt") {
    if (at + 2 > body.size() || body[at] != 0) return std::nullopt;
    at += 2;
    for (int i = 0; i < 2; ++i) {
      at = body.find('\0', at);
      if (at == std::string_view::npos) return std::nullopt;
      at += 1;
    }
  }
  return TextChunk{std::string(body.substr(0, zero)), std::string(body.substr(at))};
}

}  // namespace

std::vector<TextChunk> png_texts(std::string_view png) {
  constexpr size_t kFrame = 12;  // length, kind and check sum around each chunk's body
  std::vector<TextChunk> texts;
  for (size_t at = kPngSignature.size(); png.starts_with(kPngSignature) && at + kFrame <= png.size();) {
    const size_t length = big_endian_at(png, at);
    if (length > png.size() - at - kFrame) break;
    const auto kind = png.substr(at + 4, 4), body = png.substr(at + 8, length);
    if (crc(png.substr(at + 4, 4 + length)) != big_endian_at(png, at + 8 + length)) break;
    if (kind == "IEND") return texts;
    if (auto text = text_in(kind, body)) texts.push_back(std::move(*text));
    at += kFrame + length;
  }
  throw Error("is no whole PNG");
}

std::string encode_png(std::span<const uint8_t> rgb, int width, int height, std::span<const TextChunk> text) {
  int bytes = 0;
  const std::unique_ptr<unsigned char, decltype(&std::free)> png(
      stbi_write_png_to_mem(rgb.data(), width * 3, width, height, 3, &bytes), &std::free);
  if (!png || size_t(bytes) < kHeaderBytes)
    throw Error("cannot encode a picture of " + std::to_string(width) + "x" + std::to_string(height) +
                " as PNG");
  std::string out(reinterpret_cast<const char*>(png.get()), kHeaderBytes);
  for (const auto& entry : text) out += chunk(entry);
  out.append(reinterpret_cast<const char*>(png.get()) + kHeaderBytes, size_t(bytes) - kHeaderBytes);
  return out;
}

}  // namespace sagelab::media
