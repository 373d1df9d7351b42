// SPDX-License-Identifier: Apache-2.0
#include "ui/texture.h"

#include <GL/gl.h>
#include <GL/glext.h>

#include <utility>

namespace sagelab::ui {
namespace {

constexpr int kKept = 240;                        // frames of the window
constexpr size_t kMostBytes = size_t(512) << 20;  // beyond it only what was just shown is kept

void fill(unsigned texture, const Picture& picture, int frame) {
  GLint bound = 0, alignment = 0;
  glGetIntegerv(GL_TEXTURE_BINDING_2D, &bound);
  glGetIntegerv(GL_UNPACK_ALIGNMENT, &alignment);
  glBindTexture(GL_TEXTURE_2D, texture);
  glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MIN_FILTER, GL_LINEAR);
  glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MAG_FILTER, GL_NEAREST);
  glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_WRAP_S, GL_CLAMP_TO_EDGE);
  glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_WRAP_T, GL_CLAMP_TO_EDGE);
  glPixelStorei(GL_UNPACK_ALIGNMENT, 1);
  glTexImage2D(GL_TEXTURE_2D, 0, GL_RGB8, picture.width, picture.height, 0, GL_RGB, GL_UNSIGNED_BYTE,
               picture.frame(frame).data());
  glPixelStorei(GL_UNPACK_ALIGNMENT, alignment);
  glBindTexture(GL_TEXTURE_2D, GLuint(bound));
}

size_t bytes_of(const Picture& picture) {
  return size_t(picture.width) * picture.height * 4;
}

}  // namespace

TextureCache::~TextureCache() {
  for (const auto& [key, entry] : entries_) glDeleteTextures(1, &entry.texture);
}

ImTextureID TextureCache::of(const std::shared_ptr<const Picture>& picture, int frame) {
  auto [at, added] = entries_.try_emplace(Key{picture.get(), frame});
  auto& entry = at->second;
  if (added) {
    entry.picture = picture;
    glGenTextures(1, &entry.texture);
  }
  entry.unused = 0;
  return ImTextureID(entry.texture);
}

void TextureCache::upload() {
  for (auto& [key, entry] : entries_)
    if (!std::exchange(entry.uploaded, true)) fill(entry.texture, *entry.picture, key.frame);
}

void TextureCache::age() {
  const int kept = bytes() > kMostBytes ? 1 : kKept;
  for (auto at = entries_.begin(); at != entries_.end();) {
    if (++at->second.unused > kept) {
      glDeleteTextures(1, &at->second.texture);
      at = entries_.erase(at);
    } else {
      ++at;
    }
  }
}

size_t TextureCache::bytes() const {
  size_t all = 0;
  for (const auto& [key, entry] : entries_) all += bytes_of(*entry.picture);
  return all;
}

}  // namespace sagelab::ui
