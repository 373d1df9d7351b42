// SPDX-License-Identifier: Apache-2.0
#include "app/media/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <system_error>

#include "attention/error.h"

namespace sagelab::media {
namespace fs = std::filesystem;
namespace {

constexpr int kTries = 100;

fs::path folder_of(const fs::path& path) {
  const auto parent = path.parent_path();
  return parent.empty() ? fs::path(".") : parent;
}

// "out/" and "out" name the same folder; a symbolic link is followed, so that the file it names is replaced.
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

void write_all(int file, std::string_view bytes, const fs::path& shown) {
  while (!bytes.empty()) {
    const auto n = ::write(file, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const int error = errno;
      ::close(file);
      cannot_write(shown, error);
    }
    bytes.remove_prefix(size_t(n));
  }
}

void write_file(const fs::path& path, std::string_view bytes, const fs::path& shown) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file < 0) cannot_write(shown, errno);
  write_all(file, bytes, shown);
  if (::close(file) != 0) cannot_write(shown, errno);
}

void sync_file(const fs::path& path, const fs::path& shown) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) cannot_write(shown, errno);
  const int error = ::fsync(file) == 0 ? 0 : errno;
  ::close(file);
  if (error != 0 && error != EINVAL) cannot_write(shown, error);
}

bool is_earlier_output(const fs::path& entry) {
  const auto name = entry.filename().string();
  return name == "request.json" || (name.starts_with("frame_") && name.ends_with(".png"));
}

bool is_device(const fs::path& target) {
  std::error_code ignored;
  const auto status = fs::status(target, ignored);
  return fs::exists(status) && !fs::is_regular_file(status) && !fs::is_directory(status);
}

void check_folder_free(const fs::path& target) {
  std::error_code error;
  if (!fs::exists(target, error)) return;
  if (!fs::is_directory(target, error))
    throw Error(target.string() + " is a file, not a folder", "choose another place");
  for (const auto& entry : fs::directory_iterator(target, error)) {
    if (is_earlier_output(entry.path())) continue;
    throw Error(
        "the folder " + target.string() + " holds other files (" + entry.path().filename().string() + ")",
        "choose a new or an empty folder for --output");
  }
  if (error) cannot_write(target, error.value());
}

}  // namespace

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
  std::error_code error;
  const auto status = fs::status(target_, error);
  if (fs::is_directory(status))
    throw Error(target_.string() + " is a folder", "choose another name for the file");
  if (fs::exists(status) && !fs::is_regular_file(status))
    throw Error(target_.string() + " is not a regular file", "choose another name for the file");
  for (int attempt = 0; attempt < kTries; ++attempt) {
    temporary_ = temporary_name(target_, attempt);
    const int file = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file >= 0) {
      ::close(file);
      return;
    }
    if (errno != EEXIST) break;
  }
  const int reason = errno;
  temporary_.clear();
  cannot_write(target_, reason);
}

AtomicFile::~AtomicFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::string_view bytes) const {
  write_file(temporary_, bytes, target_);
}

void AtomicFile::commit() {
  sync_file(temporary_, target_);
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) cannot_write(target_, errno);
  temporary_.clear();
}

AtomicFolder::AtomicFolder(const fs::path& target) : target_(real_target(target)) {
  check_folder_free(target_);
  for (int attempt = 0; attempt < kTries; ++attempt) {
    temporary_ = temporary_name(target_, attempt);
    if (::mkdir(temporary_.c_str(), 0777) == 0) return;
    if (errno != EEXIST) break;
  }
  const int reason = errno;
  temporary_.clear();
  cannot_write(target_, reason);
}

AtomicFolder::~AtomicFolder() {
  std::error_code ignored;
  if (!temporary_.empty()) fs::remove_all(temporary_, ignored);
}

void AtomicFolder::write(std::string_view name, std::string_view bytes) const {
  write_file(temporary_ / name, bytes, target_);
}

void AtomicFolder::commit() {
  check_folder_free(target_);
  for (const auto& entry : fs::directory_iterator(temporary_)) sync_file(entry.path(), target_);
  std::error_code ignored;
  if (fs::exists(target_, ignored)) {
    if (::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, target_.c_str(), RENAME_EXCHANGE) != 0)
      cannot_write(target_, errno);
    fs::remove_all(temporary_, ignored);
  } else if (::rename(temporary_.c_str(), target_.c_str()) != 0) {
    cannot_write(target_, errno);
  }
  temporary_.clear();
}

void probe_file(const fs::path& target) {
  const AtomicFile file(target);
  file.write(std::string(4096, '\0'));  // a full disk lets an empty file be made
}

void probe_folder(const fs::path& target) {
  const AtomicFolder folder(target);
  folder.write("probe", std::string(4096, '\0'));
}

void write_whole(const fs::path& target, std::string_view bytes) {
  if (is_device(target)) return write_file(target, bytes, target);
  AtomicFile file(target);
  file.write(bytes);
  file.commit();
}

void probe_whole(const fs::path& target) {
  if (is_device(target)) return write_file(target, {}, target);
  probe_file(target);
}

}  // namespace sagelab::media
