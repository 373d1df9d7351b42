// SPDX-License-Identifier: Apache-2.0
// H.264 in MP4 through libav: yuv420p in BT.709, index in front, one comment tag.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "pipelines/frames.h"

namespace sagelab::media {

struct Mp4Tags {
  double fps = 8;
  std::string comment;          // UTF-8
  std::filesystem::path shown;  // the final name, for messages
};

// Writes into the file in place (give it a temporary name). cancelled is asked before each frame: once it
// says yes, writing stops and false is returned. Throws sagelab::Error: no encoder, odd sizes, disk full.
bool write_mp4(const std::filesystem::path& file, const Picture& picture, const Mp4Tags& tags,
               const std::function<bool()>& cancelled);

// The comment tag of any file that libav can open; empty where it has none. Throws sagelab::Error.
std::string mp4_comment(const std::filesystem::path& file);

std::string h264_encoder();  // "libx264"; empty where libav has none that we can drive
std::string libav_version();

}  // namespace sagelab::media
