// SPDX-License-Identifier: Apache-2.0
// Pictures as textures of the window. With platform/window.cpp the only place that touches GL; the main
// thread only.
#pragma once

#include <imgui.h>

#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "pipelines/frames.h"

namespace sagelab::ui {

// What panels draw with; tests have one without GL.
class Textures {
 public:
  virtual ~Textures() = default;
  // The texture of a frame, RGB8 [H, W, 3]; it goes when the picture does.
  virtual ImTextureID of(const std::shared_ptr<const Picture>& picture, int frame) = 0;
};

// Frames are uploaded before what first shows them is drawn, and kept while they are shown; nearest sampling
// where they are enlarged, linear where they are made smaller.
class TextureCache final : public Textures {
 public:
  TextureCache() = default;
  ~TextureCache() override;  // the GL context must still be there
  TextureCache(const TextureCache&) = delete;
  TextureCache& operator=(const TextureCache&) = delete;

  ImTextureID of(const std::shared_ptr<const Picture>& picture, int frame) override;
  // Once a frame, before it is drawn: what was asked for the first time.
  void upload();
  // Once a frame: textures that were not asked for lately are freed.
  void age();
  size_t bytes() const;

 private:
  struct Key {
    const Picture* picture = nullptr;
    int frame = 0;
    auto operator<=>(const Key&) const = default;
  };
  struct Entry {
    std::weak_ptr<const Picture> picture;
    unsigned texture = 0;
    size_t bytes = 0;
    int unused = 0;  // frames of the window since it was last asked for
  };
  void drop(std::map<Key, Entry>::iterator at);
  std::map<Key, Entry> entries_;
  std::vector<std::pair<std::shared_ptr<const Picture>, int>> fresh_;  // to be uploaded
};

}  // namespace sagelab::ui
