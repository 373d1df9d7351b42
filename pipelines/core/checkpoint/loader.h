// SPDX-License-Identifier: Apache-2.0
// A pool of threads that moves mapped tensors to where they belong: each byte once, in file order, several
// files at a time, converting on the way. Beyond the page cache it holds two chunks a thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>

#include "pipelines/core/safetensors.h"

namespace sagelab {

class Loader {
 public:
  // progress: bytes done, bytes in all; called by any thread, one at a time, from wait() on. What it throws
  // stops the loading and leaves wait().
  explicit Loader(std::function<void(int64_t done, int64_t total)> progress = {});
  ~Loader();  // drops what is still queued
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // out: contiguous, as many elements as stored; on CUDA it is written after the work now queued on the
  // current stream.
  void queue(std::shared_ptr<const SafetensorsFile> file, const StoredTensor& stored, const at::Tensor& out);
  void wait();
  int64_t bytes_read() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sagelab
