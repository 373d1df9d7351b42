// SPDX-License-Identifier: Apache-2.0
#include "app/media/output.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "app/media/file.h"
#include "app/media/png.h"
#include "attention/error.h"
#ifdef SAGELAB_FFMPEG
#include "app/media/mp4.h"
#endif

namespace sagelab::media {
namespace fs = std::filesystem;
namespace {

std::string lower_extension(const fs::path& path) {
  auto extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return extension;
}

void require_mp4() {
#ifdef SAGELAB_FFMPEG
  if (h264_encoder().empty())
    throw Error("this machine's libavcodec has no H.264 encoder (libx264 or libopenh264)",
                "install one, or write PNG frames: --output folder/");
#else
  throw Error("this program was built without FFmpeg and cannot write MP4",
              "write PNG frames instead: --output folder/");
#endif
}

}  // namespace

bool can_write_mp4(int width, int height) {
#ifdef SAGELAB_FFMPEG
  return !h264_encoder().empty() && width % 2 == 0 && height % 2 == 0;
#else
  return static_cast<void>(width + height), false;
#endif
}

Kind kind_of(const std::string& name) {
  const fs::path path(name);
  std::error_code ignored;
  if (name.ends_with('/') || fs::is_directory(path, ignored)) return Kind::Folder;
  const auto extension = lower_extension(path);
  if (extension == ".mp4") return Kind::Mp4;
  if (extension == ".png") return Kind::Png;
  throw Error("--output " + name + " is of no known kind",
              "name it x.mp4, x.png (one frame) or folder/ (PNG frames)");
}

Output::Output(std::string name) : path_(name), kind_(kind_of(name)) {
  if (kind_ == Kind::Folder && !path_.has_filename()) path_ = path_.parent_path();
  if (kind_ == Kind::Mp4) require_mp4();
}

std::string Output::name() const {
  return path_.string() + (kind_ == Kind::Folder ? "/" : "");
}

fs::path Output::beside(const char* ending) const {
  auto name = kind_ == Kind::Folder ? path_.filename() : path_.stem();
  name += ending;
  return path_.parent_path() / name;
}

fs::path Output::latents_beside() const {
  return beside(".latents.safetensors");
}
fs::path Output::checkpoint_beside() const {
  return beside(".checkpoint.safetensors");
}
fs::path Output::preview_beside() const {
  return beside(".preview.png");
}

void Output::check_frames(int frames) const {
  if (kind_ == Kind::Png && frames != 1)
    throw Error("a PNG holds one frame, this request makes " + std::to_string(frames),
                "use --output x.mp4 or folder/, or --num-frames 1");
}

void Output::probe() const {
  kind_ == Kind::Folder ? probe_folder(path_) : probe_file(path_);
}

bool Output::write(const Frames& frames, const Metadata& metadata,
                   const std::function<bool()>& cancelled) const {
  const auto& picture = *frames.picture;
  check_frames(picture.frames);
  if (kind_ == Kind::Folder) return write_folder(frames, metadata, cancelled);
  AtomicFile file(path_);
  if (kind_ == Kind::Png) {
    const std::array<TextChunk, 2> text{TextChunk{"parameters", metadata.parameters},
                                        TextChunk{"sagelab", metadata.request}};
    file.write(encode_png(picture.frame(0), picture.width, picture.height, text));
  } else {
#ifdef SAGELAB_FFMPEG
    if (!write_mp4(file.temporary(), picture, {frames.fps, metadata.request, path_}, cancelled)) return false;
#else
    require_mp4();
#endif
  }
  if (cancelled && cancelled()) return false;
  file.commit();
  return true;
}

bool Output::write_folder(const Frames& frames, const Metadata& metadata,
                          const std::function<bool()>& cancelled) const {
  const auto& picture = *frames.picture;
  AtomicFolder folder(path_);
  for (int t = 0; t < picture.frames; ++t) {
    if (cancelled && cancelled()) return false;
    char name[32];
    std::snprintf(name, sizeof name, "frame_%04d.png", t);
    folder.write(name, encode_png(picture.frame(t), picture.width, picture.height, {}));
  }
  folder.write("request.json", metadata.request + "\n");
  if (cancelled && cancelled()) return false;
  folder.commit();
  return true;
}

}  // namespace sagelab::media
