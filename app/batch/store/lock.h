// SPDX-License-Identifier: Apache-2.0
// Locks between processes, on files that stay: the system gives a lock back when its process ends, however it
// ends. They name their holder for messages.
#pragma once

#include <filesystem>

namespace sagelab::batch {

class FileLock {
 public:
  enum class Mode { Wait, Refuse };
  // Makes the file. Refuse: throws sagelab::Error naming the process that holds it, where one does; Wait:
  // waits for it. Throws sagelab::Error where the file cannot be made.
  FileLock(const std::filesystem::path& file, Mode mode);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int file_ = -1;
};

}  // namespace sagelab::batch
