// SPDX-License-Identifier: Apache-2.0
#include "app/media/stored.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "app/media/png.h"
#include "attention/error.h"
#ifdef SAGELAB_FFMPEG
#include "app/media/mp4.h"
#endif

namespace sagelab::media {
namespace fs = std::filesystem;
namespace {

constexpr const char* kOurs = "give an MP4, a PNG, a folder of frames or a report that this program wrote";

std::string read(const fs::path& file, size_t most = SIZE_MAX) {
  errno = 0;
  std::ifstream in(file, std::ios::binary);
  if (!in) throw Error(file.string() + ": cannot be read: " + std::strerror(errno), kOurs);
  if (most != SIZE_MAX) {
    std::string start(most, '\0');
    in.read(start.data(), std::streamsize(most));
    start.resize(size_t(in.gcount()));
    return start;
  }
  std::stringstream bytes;
  bytes << in.rdbuf();
  return bytes.str();
}

std::string text_of_png(const fs::path& file) {
  try {
    for (auto& text : png_texts(read(file)))
      if (text.keyword == "sagelab") return std::move(text.text);
  } catch (const Error& e) {
    throw Error(file.string() + ": " + e.what(), kOurs);
  }
  throw Error(file.string() + ": this PNG does not say how it was made",
              "of a folder of frames, give the folder: its request.json does");
}

std::string comment_of_mp4(const fs::path& file) {
#ifdef SAGELAB_FFMPEG
  auto comment = mp4_comment(file);
  if (comment.empty()) throw Error(file.string() + ": this video does not say how it was made", kOurs);
  return comment;
#else
  throw Error(file.string() + ": this program was built without FFmpeg and cannot read MP4",
              "give the report of the run");
#endif
}

}  // namespace

std::string stored_text(const fs::path& file) {
  constexpr size_t kStart = 16;
  std::error_code ignored;
  if (fs::is_directory(file, ignored)) return read(file / "request.json");
  const auto start = read(file, kStart);
  if (start.starts_with("\x89PNG")) return text_of_png(file);
  if (start.size() >= 8 && start.substr(4, 4) == "ftyp") return comment_of_mp4(file);
  if (start.find_first_not_of(" \t\r\n") != std::string::npos &&
      start[start.find_first_not_of(" \t\r\n")] == '{')
    return read(file);
  throw Error(file.string() + ": is no MP4, PNG or JSON", kOurs);
}

}  // namespace sagelab::media
