// SPDX-License-Identifier: Apache-2.0
// PNG in memory, with text chunks.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sagelab::media {

// text is UTF-8: written as tEXt where it is ASCII, as iTXt (uncompressed) elsewhere. keyword: 1 to 79 ASCII
// characters.
struct TextChunk {
  std::string keyword, text;
};

// rgb [height, width, 3]. Throws sagelab::Error where the picture is too large for the encoder.
std::string encode_png(std::span<const uint8_t> rgb, int width, int height, std::span<const TextChunk> text);
// The texts of tEXt chunks and of iTXt chunks that are not compressed. Throws sagelab::Error for bytes that
// are no whole PNG.
std::vector<TextChunk> png_texts(std::string_view png);

}  // namespace sagelab::media
