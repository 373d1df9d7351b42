// SPDX-License-Identifier: Apache-2.0
#include "app/batch/store/lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <utility>

#include "attention/error.h"
#include "pipelines/core/files/atomic_file.h"

namespace sagelab::batch {
namespace {

std::string this_process() {
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  return fmt::format("process {} on {}", ::getpid(), host.data());
}

std::string holder_of(int file) {
  std::array<char, 512> text{};
  const auto n = ::pread(file, text.data(), text.size(), 0);
  std::string holder(text.data(), n > 0 ? size_t(n) : 0);
  holder = holder.substr(0, holder.find('\n'));
  return holder.empty() ? "another process" : holder;
}

}  // namespace

FileLock::FileLock(const std::filesystem::path& file, Mode mode) {
  file_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (file_ < 0) cannot_write(file, errno);
  int taken = 0;
  do taken = ::flock(file_, mode == Mode::Wait ? LOCK_EX : LOCK_EX | LOCK_NB);
  while (taken != 0 && errno == EINTR);
  if (taken != 0) {
    const int error = errno;
    const auto holder = holder_of(file_);
    ::close(std::exchange(file_, -1));
    if (error != EWOULDBLOCK) cannot_write(file, error);
    throw Error(fmt::format("{} works on this already: it holds {}", holder, file.string()),
                "wait until it is done, or give each process a --shard i/n of its own");
  }
  const auto name = this_process() + "\n";
  // For messages alone: a lock without its holder's name is a lock.
  if (::ftruncate(file_, 0) == 0) [[maybe_unused]]
    const auto written = ::pwrite(file_, name.data(), name.size(), 0);
}

FileLock::~FileLock() {
  if (file_ >= 0) ::close(file_);
}

}  // namespace sagelab::batch
