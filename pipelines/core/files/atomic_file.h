// SPDX-License-Identifier: Apache-2.0
// Files that appear under their names only when they are whole: written under a temporary name in the same
// folder, renamed by commit(). What is not committed is removed. Plain C++.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

namespace sagelab {

class AtomicFile {
 public:
  // Creates the temporary file. Throws sagelab::Error where it cannot, or where the name is a folder's or a
  // device's. A symbolic link is followed: the file that it names is replaced.
  explicit AtomicFile(const std::filesystem::path& target);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  const std::filesystem::path& temporary() const { return temporary_; }
  void write(std::string_view bytes) const;  // after what was written before; throws sagelab::Error
  void commit();                             // synced and renamed; throws sagelab::Error

 private:
  friend class ReservedSpace;
  std::filesystem::path target_, temporary_;
  int file_ = -1;
};

// Room for a file that is to be written later, taken from the disk now and without a name, so that nothing
// stays behind if the process dies. Given back by the destructor. Throws sagelab::Error where there is no
// room, or where a file of this name could not be written.
class ReservedSpace {
 public:
  ReservedSpace(const std::filesystem::path& target, int64_t bytes);
  ~ReservedSpace();
  ReservedSpace(const ReservedSpace&) = delete;
  ReservedSpace& operator=(const ReservedSpace&) = delete;

 private:
  int file_ = -1;
};

// "out/" and "out" name the same; a symbolic link is followed.
std::filesystem::path real_target(const std::filesystem::path& path);
// A name in the target's own folder that nobody uses, for a draft of it.
std::filesystem::path temporary_name(const std::filesystem::path& target, int attempt);
// The path, or with "-2", "-3" ... before its last extension the first that is free.
std::filesystem::path free_name(const std::filesystem::path& path);

// Throws sagelab::Error: "cannot write <path>: <reason>" with a hint that fits the reason.
[[noreturn]] void cannot_write(const std::filesystem::path& path, int error_number);

}  // namespace sagelab
