// SPDX-License-Identifier: Apache-2.0
#include "pipelines/core/files/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include "attention/error.h"

namespace sagelab {
namespace fs = std::filesystem;
namespace {

constexpr int kTries = 100;

fs::path folder_of(const fs::path& path) {
  const auto parent = path.parent_path();
  return parent.empty() ? fs::path(".") : parent;
}

void check_kind(const fs::path& given, const fs::path& target) {
  std::error_code ignored;
  const auto status = fs::status(target, ignored);
  if (fs::is_directory(status) || !given.has_filename())
    throw Error(target.string() + " is a folder", "choose another name for the file");
  if (fs::exists(status) && !fs::is_regular_file(status))
    throw Error(target.string() + " is not a regular file", "choose another name for the file");
}

// The rename itself lasts only once the folder is on disk. File systems that cannot do this are no failure.
void sync_folder(const fs::path& folder) {
  const int file = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (file < 0) return;
  ::fsync(file);
  ::close(file);
}

}  // namespace

fs::path real_target(const fs::path& path) {
  fs::path target = path.has_filename() ? path : path.parent_path();
  std::error_code ignored;
  if (fs::is_symlink(target, ignored)) target = fs::weakly_canonical(target, ignored);
  return target;
}

fs::path temporary_name(const fs::path& target, int attempt) {
  return target.parent_path() /
         fmt::format(".{}.{}-{}.part", target.filename().string(), ::getpid(), attempt);
}

fs::path free_name(const fs::path& path) {
  fs::path name = path;
  std::error_code ignored;
  for (int i = 2; fs::exists(fs::symlink_status(name, ignored)); ++i)
    name = path.parent_path() / fmt::format("{}-{}{}", path.stem().string(), i, path.extension().string());
  return name;
}

void cannot_write(const fs::path& path, int error_number) {
  const auto folder = folder_of(path).string();
  std::string hint = "choose another place";
  if (error_number == ENOSPC || error_number == EDQUOT || error_number == EFBIG)
    hint = "free some space in " + folder + ", or choose another place";
  else if (error_number == ENOENT)
    hint = "make the folder " + folder + " first, or choose another place";
  else if (error_number == EACCES || error_number == EPERM || error_number == EROFS)
    hint = "choose a folder that you may write to";
  throw Error("cannot write " + path.string() + ": " + std::generic_category().message(error_number), hint);
}

AtomicFile::AtomicFile(const fs::path& target) : target_(real_target(target)) {
  check_kind(target, target_);
  for (int attempt = 0; attempt < kTries; ++attempt) {
    temporary_ = temporary_name(target_, attempt);
    file_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file_ >= 0) return;
    if (errno != EEXIST) break;
  }
  cannot_write(target_, errno);
}

AtomicFile::~AtomicFile() {
  if (file_ >= 0) ::close(file_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::string_view bytes) const {
  while (!bytes.empty()) {
    const auto n = ::write(file_, bytes.data(), std::min(bytes.size(), size_t(1) << 30));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) cannot_write(target_, errno);
    bytes.remove_prefix(size_t(n));
  }
}

void AtomicFile::commit() {
  if (::fsync(file_) != 0 && errno != EINVAL) cannot_write(target_, errno);
  if (::close(std::exchange(file_, -1)) != 0) cannot_write(target_, errno);
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) cannot_write(target_, errno);
  temporary_.clear();
  sync_folder(folder_of(target_));
}

ReservedSpace::ReservedSpace(const fs::path& target, int64_t bytes) {
  AtomicFile draft(target);
  // Where a file system cannot allocate, the C library writes to each block instead.
  if (const int error = bytes > 0 ? ::posix_fallocate(draft.file_, 0, bytes) : 0; error != 0)
    cannot_write(draft.target_, error);
  file_ = std::exchange(draft.file_, -1);  // the name goes away with the draft; the blocks stay ours
}

ReservedSpace::~ReservedSpace() {
  if (file_ >= 0) ::close(file_);
}

}  // namespace sagelab
