// SPDX-License-Identifier: Apache-2.0
#include "app/media/png.h"

#include <array>
#include <map>
#include <memory>

#define STB_IMAGE_IMPLEMENTATION
#define STBI_ONLY_PNG
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb/stb_image.h>
#pragma GCC diagnostic pop

#include "tests/app/support.h"

namespace sagelab::media {
namespace {

using sagelab::testing::smooth_clip;

uint32_t big_endian(const std::string& bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | uint8_t(bytes.at(at + i));
  return value;
}

// The checksum bit by bit, as the format's text defines it: not the table of the product.
uint32_t slow_crc(const std::string& bytes) {
  uint32_t c = 0xFFFFFFFFu;
  for (const unsigned char byte : bytes) {
    c ^= byte;
    for (int k = 0; k < 8; ++k) c = (c & 1) ? c >> 1 ^ 0xEDB88320u : c >> 1;
  }
  return ~c;
}

// type -> bodies in order; checks lengths and checksums on the way.
std::vector<std::pair<std::string, std::string>> chunks_of(const std::string& png) {
  std::vector<std::pair<std::string, std::string>> chunks;
  EXPECT_EQ(png.substr(0, 8), std::string("\x89PNG\r\n\x1a\n"));
  for (size_t at = 8; at < png.size();) {
    const auto length = big_endian(png, at);
    const auto body = png.substr(at + 4, 4 + length);
    EXPECT_EQ(big_endian(png, at + 8 + length), slow_crc(body)) << body.substr(0, 4);
    chunks.emplace_back(body.substr(0, 4), body.substr(4));
    at += 12 + length;
  }
  return chunks;
}

TEST(Png, PixelsComeBackExactly) {
  const auto picture = smooth_clip(1, 40, 24);
  const auto png = encode_png(picture.frame(0), 40, 24, {});
  int w = 0, h = 0, channels = 0;
  const std::unique_ptr<stbi_uc, decltype(&stbi_image_free)> pixels(
      stbi_load_from_memory(reinterpret_cast<const stbi_uc*>(png.data()), int(png.size()), &w, &h, &channels,
                            3),
      &stbi_image_free);
  ASSERT_TRUE(pixels);
  EXPECT_EQ(w, 40);
  EXPECT_EQ(h, 24);
  EXPECT_EQ(channels, 3);
  EXPECT_TRUE(std::equal(picture.pixels.begin(), picture.pixels.end(), pixels.get()));
}

TEST(Png, AsciiTextIsAPlainChunkAndOtherTextIsUtf8) {
  const auto picture = smooth_clip(1, 16, 16);
  const std::array<TextChunk, 2> text{TextChunk{"parameters", "a cat\nSteps: 4"},
                                      TextChunk{"sagelab", "{\"prompt\":\"猫\"}"}};
  const auto chunks = chunks_of(encode_png(picture.frame(0), 16, 16, text));
  ASSERT_EQ(chunks.size(), 5u);
  EXPECT_EQ(chunks[0].first, "IHDR");
  EXPECT_EQ(chunks[1].first, "tEXt");
  EXPECT_EQ(chunks[1].second, std::string("parameters\0a cat\nSteps: 4", 25));
  EXPECT_EQ(chunks[2].first, "iTXt");
  EXPECT_EQ(chunks[2].second, std::string("sagelab\0\0\0\0\0", 12) + "{\"prompt\":\"猫\"}");
  EXPECT_EQ(chunks[3].first, "IDAT");
  EXPECT_EQ(chunks[4].first, "IEND");
}

}  // namespace
}  // namespace sagelab::media
