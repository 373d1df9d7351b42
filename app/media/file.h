// SPDX-License-Identifier: Apache-2.0
// Files and folders that appear under their names only when they are whole: written under a temporary name in
// the same folder, renamed by commit(). What is not committed is removed.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace sagelab::media {

class AtomicFile {
 public:
  // Creates the temporary file. Throws sagelab::Error where it cannot, or where the name is a folder or a
  // device.
  explicit AtomicFile(const std::filesystem::path& target);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  const std::filesystem::path& temporary() const { return temporary_; }
  void write(std::string_view bytes) const;  // the whole content; throws sagelab::Error
  void commit();                             // throws sagelab::Error

 private:
  std::filesystem::path target_, temporary_;
};

class AtomicFolder {
 public:
  // Throws sagelab::Error where it cannot be made, or where a folder of this name holds anything but an
  // earlier output (frame_*.png, request.json).
  explicit AtomicFolder(const std::filesystem::path& target);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  const std::filesystem::path& temporary() const { return temporary_; }
  void write(std::string_view name, std::string_view bytes) const;  // one file in it; throws sagelab::Error
  void commit();  // an earlier output of the same name is replaced as a whole

 private:
  std::filesystem::path target_, temporary_;
};

// Throws sagelab::Error where a file of this name could not be written now; leaves nothing behind.
void probe_file(const std::filesystem::path& target);
void probe_folder(const std::filesystem::path& target);

// A name that is no regular file (/dev/stdout) is written in place.
void write_whole(const std::filesystem::path& target, std::string_view bytes);
void probe_whole(const std::filesystem::path& target);

// Throws sagelab::Error: "cannot write <path>: <reason>" with a hint that fits the reason.
[[noreturn]] void cannot_write(const std::filesystem::path& path, int error_number);

}  // namespace sagelab::media
