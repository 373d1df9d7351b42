// SPDX-License-Identifier: Apache-2.0
#include "app/media/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>

#include "attention/error.h"

namespace sagelab::media {
namespace fs = std::filesystem;
namespace {

constexpr int kTries = 100;

// In place: for devices, and for files of a folder that nobody sees yet.
void write_file(const fs::path& path, std::string_view bytes, const fs::path& shown) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file < 0) cannot_write(shown, errno);
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
  if (::close(file) != 0) cannot_write(shown, errno);
}

void sync_file(const fs::path& path, const fs::path& shown) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) cannot_write(shown, errno);
  const int error = ::fsync(file) == 0 ? 0 : errno;
  ::close(file);
  if (error != 0 && error != EINVAL) cannot_write(shown, error);
}

bool is_device(const fs::path& target) {
  std::error_code ignored;
  const auto status = fs::status(target, ignored);
  return fs::exists(status) && !fs::is_regular_file(status) && !fs::is_directory(status);
}

bool is_frame(const std::string& name) {
  return name.starts_with("frame_") && name.ends_with(".png");
}

// Written by this program: an object that holds what every request does.
bool is_our_request(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  const auto json = nlohmann::json::parse(in, nullptr, false);
  return json.is_object() && json.contains("model") && json.contains("prompt") && json.contains("seed");
}

fs::path make_draft_folder(const fs::path& target) {
  for (int attempt = 0; attempt < kTries; ++attempt) {
    const auto name = temporary_name(target, attempt);
    if (::mkdir(name.c_str(), 0777) == 0) return name;
    if (errno != EEXIST) break;
  }
  cannot_write(target, errno);
}

}  // namespace

void check_frames_folder(const fs::path& target) {
  std::error_code error;
  if (!fs::exists(target, error)) return;
  if (!fs::is_directory(target, error))
    throw Error(target.string() + " is a file, not a folder", "choose another place");
  bool empty = true;
  for (const auto& entry : fs::directory_iterator(target, error)) {
    empty = false;
    const auto name = entry.path().filename().string();
    if (is_frame(name) || name == "request.json") continue;
    throw Error("the folder " + target.string() + " holds other files (" + name + ")",
                "choose a new or an empty folder for --output");
  }
  if (error) cannot_write(target, error.value());
  if (!empty && !is_our_request(target / "request.json"))
    throw Error("the folder " + target.string() + " holds frames without the request.json of a run of ours",
                "choose a new or an empty folder for --output");
}

AtomicFolder::AtomicFolder(const fs::path& target, Check check)
    : target_(real_target(target)), check_(std::move(check)) {
  check_(target_);
  temporary_ = make_draft_folder(target_);
}

AtomicFolder::~AtomicFolder() {
  std::error_code ignored;
  if (!temporary_.empty()) fs::remove_all(temporary_, ignored);
}

void AtomicFolder::write(std::string_view name, std::string_view bytes) const {
  write_file(temporary_ / name, bytes, target_);
}

void AtomicFolder::commit() {
  check_(target_);
  for (const auto& entry : fs::directory_iterator(temporary_)) sync_file(entry.path(), target_);
  std::error_code ignored;
  if (fs::exists(target_, ignored))
    replace_folder(temporary_, target_);
  else if (::rename(temporary_.c_str(), target_.c_str()) != 0)
    cannot_write(target_, errno);
  temporary_.clear();
}

void replace_folder(const fs::path& from, const fs::path& to, bool exchange) {
  std::error_code ignored;
  if (exchange && ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0) {
    fs::remove_all(from, ignored);
    return;
  }
  // EINVAL, ENOSYS: network and FUSE file systems often cannot exchange.
  if (exchange && errno != EINVAL && errno != ENOSYS) cannot_write(to, errno);
  const auto away = make_draft_folder(to);  // an empty folder may be renamed over
  if (::rename(to.c_str(), away.c_str()) != 0) {
    const int error = errno;
    fs::remove(away, ignored);
    cannot_write(to, error);
  }
  if (::rename(from.c_str(), to.c_str()) != 0) {
    const int error = errno;
    ::rename(away.c_str(), to.c_str());
    cannot_write(to, error);
  }
  fs::remove_all(away, ignored);
}

void probe_file(const fs::path& target, int64_t bytes) {
  const ReservedSpace space(target, bytes);  // a full disk lets an empty file be made
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
