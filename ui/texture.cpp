// SPDX-License-Identifier: Apache-2.0
#include "ui/texture.h"

#include <GL/gl.h>
#include <GL/glext.h>

#include <algorithm>
#include <iterator>

namespace sagelab::ui {
namespace {

constexpr int kKept = 240;                        // frames of the window
constexpr size_t kMostBytes = size_t(512) << 20;  // beyond it what was shown last goes last

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
  auto& entry = entries_[Key{picture.get(), frame}];
  // Another may have been at this address before.
  if (entry.texture == 0 || entry.picture.lock() != picture) {
    if (entry.texture == 0) glGenTextures(1, &entry.texture);
    entry.picture = picture;
    entry.bytes = bytes_of(*picture);
    fresh_.emplace_back(picture, frame);
  }
  entry.unused = 0;
  return ImTextureID(entry.texture);
}

void TextureCache::upload() {
  for (const auto& [picture, frame] : fresh_)
    fill(entries_.at(Key{picture.get(), frame}).texture, *picture, frame);
  fresh_.clear();
}

void TextureCache::age() {
  for (auto at = entries_.begin(); at != entries_.end();) {
    const auto next = std::next(at);
    if (++at->second.unused > kKept || at->second.picture.expired()) drop(at);
    at = next;
  }
  while (bytes() > kMostBytes) {
    const auto oldest = std::max_element(entries_.begin(), entries_.end(), [](const auto& a, const auto& b) {
      return a.second.unused < b.second.unused;
    });
    if (oldest->second.unused <= 1) return;  // all that is left is shown
    drop(oldest);
  }
}

void TextureCache::drop(std::map<Key, Entry>::iterator at) {
  glDeleteTextures(1, &at->second.texture);
  entries_.erase(at);
}

size_t TextureCache::bytes() const {
  size_t all = 0;
  for (const auto& [key, entry] : entries_) all += entry.bytes;
  return all;
}

}  // namespace sagelab::ui
