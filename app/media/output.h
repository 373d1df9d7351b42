// SPDX-License-Identifier: Apache-2.0
// Where a result goes, by its name: x.mp4, x.png (one frame) or folder/ (PNG frames and request.json).
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "pipelines/frames.h"

namespace sagelab::media {

enum class Kind { Mp4, Png, Folder };

// Throws sagelab::Error for a name of no known kind.
Kind kind_of(const std::string& name);

// Whether this build and this machine can write MP4 of such frames; else videos are folders of frames.
bool can_write_mp4(int width, int height);

// What is stored beside the pixels.
struct Metadata {
  std::string request;     // JSON
  std::string parameters;  // as AUTOMATIC1111 writes them: what other programs show
};

class Output {
 public:
  // Throws sagelab::Error for a name of no known kind, or for x.mp4 where this build or machine cannot write
  // it.
  explicit Output(std::string name);

  Kind kind() const { return kind_; }
  const std::filesystem::path& path() const { return path_; }
  std::string name() const;  // as Output takes it
  // Finished latents, where nobody named a place: out.latents.safetensors for out.mp4.
  std::filesystem::path latents_beside() const;
  std::filesystem::path checkpoint_beside() const;  // out.checkpoint.safetensors
  std::filesystem::path preview_beside() const;     // out.preview.png
  // Throws sagelab::Error for several frames in one PNG.
  void check_frames(int frames) const;
  // Throws sagelab::Error where nothing could be written now; leaves nothing behind.
  void probe() const;
  // Whole or not at all. Returns false, with nothing written, once cancelled says yes.
  bool write(const Frames& frames, const Metadata& metadata,
             const std::function<bool()>& cancelled = {}) const;

 private:
  std::filesystem::path beside(const char* ending) const;
  bool write_folder(const Frames& frames, const Metadata& metadata,
                    const std::function<bool()>& cancelled) const;
  std::filesystem::path path_;
  Kind kind_ = Kind::Folder;
};

}  // namespace sagelab::media
