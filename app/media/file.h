// SPDX-License-Identifier: Apache-2.0
// What a run writes: folders that appear only when they are whole, and small files.
#pragma once

#include <filesystem>
#include <functional>
#include <string_view>

#include "pipelines/core/files/atomic_file.h"

namespace sagelab::media {

// Throws sagelab::Error where a folder of this name holds anything but an earlier output: frame_*.png beside
// our request.json.
void check_frames_folder(const std::filesystem::path& target);

class AtomicFolder {
 public:
  using Check = std::function<void(const std::filesystem::path& target)>;
  // check: throws where what is there must not be replaced; asked now and by commit(). Throws sagelab::Error
  // where the folder cannot be made.
  explicit AtomicFolder(const std::filesystem::path& target, Check check = check_frames_folder);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  const std::filesystem::path& temporary() const { return temporary_; }
  void write(std::string_view name, std::string_view bytes) const;  // one file in it; throws sagelab::Error
  void commit();  // an earlier output of the same name is replaced as a whole

 private:
  std::filesystem::path target_, temporary_;
  Check check_;
};

// Puts the folder `from` in the place of `to`, whose former content is removed. exchange: in one step, where
// the file system can; else `to` is away for a moment. Throws sagelab::Error; `to` is then as it was.
void replace_folder(const std::filesystem::path& from, const std::filesystem::path& to, bool exchange = true);

// Throws sagelab::Error where a file of this name and size could not be written now; leaves nothing behind.
void probe_file(const std::filesystem::path& target, int64_t bytes = 4096);
void probe_folder(const std::filesystem::path& target);

// A name that is no regular file (/dev/stdout) is written in place.
void write_whole(const std::filesystem::path& target, std::string_view bytes);
void probe_whole(const std::filesystem::path& target);

}  // namespace sagelab::media
