// SPDX-License-Identifier: Apache-2.0
#include "pipelines/core/checkpoint/loader.h"

#include <c10/core/Event.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <limits>
#include <mutex>
#include <thread>

#include "attention/error.h"

namespace sagelab {
namespace {

constexpr int64_t kChunk = int64_t(8) << 20;  // file bytes moved at a time by one thread
constexpr unsigned kThreads = 8;              // more do not make a disk or a bus faster
// ATen converts fewer elements than its grain (32768) in the calling thread. More would start a team of
// OpenMP threads under each of ours.
constexpr int64_t kGrain = 32 * 1000;

// One chunk of one tensor.
struct Read {
  std::shared_ptr<const SafetensorsFile> file;
  uint64_t begin = 0;
  int64_t bytes = 0;
  at::ScalarType from = at::kFloat;
  at::Tensor out;                     // [elements of the chunk]
  std::shared_ptr<c10::Event> ready;  // the memory behind out is ours from here on; CUDA only
  const std::byte* data() const { return file->bytes().data() + begin; }
};

// Pages come in by explicit advice, not by faults: a page that cannot be read (a file cut short, a failing
// disk) is then an error of ours and not a SIGBUS; and they leave the process again when they were used.
void advise(const Read& read, int advice) {
  const auto page = uintptr_t(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(read.data()) / page * page;
  const auto end = reinterpret_cast<uintptr_t>(read.data()) + size_t(read.bytes);
  int result = 0;
  do result = ::madvise(reinterpret_cast<void*>(begin), end - begin, advice);
  while (result != 0 && errno == EINTR);
  if (result == 0 || advice != MADV_POPULATE_READ) return;
  if (errno == EINVAL || errno == ENOSYS) return;  // before Linux 5.14: faults then
  throw Error(
      fmt::format("{}: cannot be read at byte {}: {}", read.file->path().string(), read.begin,
                  errno == EFAULT ? "the file was cut short, or its disk fails" : std::strerror(errno)),
      "check the disk, and download the file again if it is incomplete");
}

void bring_in(const Read& read) {
  advise(read, MADV_WILLNEED);
  advise(read, MADV_POPULATE_READ);
}

void convert_on_cpu(const Read& read) {
  const int64_t size = int64_t(c10::elementSize(read.from)), elements = read.out.numel();
  alignas(64) std::array<std::byte, kGrain * 8> aligned;
  const bool skewed = reinterpret_cast<uintptr_t>(read.data()) % size_t(size) != 0;
  for (int64_t i = 0; i < elements; i += kGrain) {
    const int64_t n = std::min(kGrain, elements - i);
    const std::byte* from = read.data() + i * size;
    if (skewed) from = static_cast<const std::byte*>(std::memcpy(aligned.data(), from, size_t(n * size)));
    read.out.narrow(0, i, n).copy_(at::from_blob(const_cast<std::byte*>(from), {n}, read.from));
  }
}

void move_to_cpu(const Read& read) {
  bring_in(read);
  if (read.from == read.out.scalar_type())
    std::memcpy(read.out.data_ptr(), read.data(), size_t(read.bytes));
  else
    convert_on_cpu(read);
  advise(read, MADV_DONTNEED);
}

// One thread's way to a device: while one pinned buffer travels, the other is filled. Conversion is the
// device's.
class Staging {
 public:
  explicit Staging(at::Device device)
      : stream_(c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device)) {}
  ~Staging() {
    try {
      finish();
    } catch (...) {  // the device failed; whoever uses it next will say so
    }
  }
  at::Device device() const { return stream_.device(); }

  void move(const Read& read) {
    Slot& slot = slots_[next_++ % slots_.size()];
    finish(slot);
    if (!slot.pinned.defined())
      slot.pinned = at::empty({kChunk}, at::TensorOptions().dtype(at::kByte).pinned_memory(true));
    bring_in(read);
    std::memcpy(slot.pinned.data_ptr(), read.data(), size_t(read.bytes));
    advise(read, MADV_DONTNEED);
    c10::StreamGuard guard(stream_);
    read.ready->block(stream_);
    const at::Tensor staged = slot.pinned.narrow(0, 0, read.bytes).view(read.from);
    slot.out = read.out;
    if (read.from == read.out.scalar_type()) {
      read.out.copy_(staged, true);
    } else {
      at::Tensor raw = at::empty({read.out.numel()}, read.out.options().dtype(read.from));
      raw.copy_(staged, true);
      read.out.copy_(raw);
    }
    slot.sent.record(stream_);
  }
  void finish() {
    for (auto& slot : slots_) finish(slot);
  }

 private:
  struct Slot {
    at::Tensor pinned;
    at::Tensor out;  // kept alive while it is written
    c10::Event sent{at::kCUDA};
  };
  static void finish(Slot& slot) {
    if (!slot.out.defined()) return;
    slot.sent.synchronize();
    slot.out.reset();
  }
  c10::Stream stream_;
  std::array<Slot, 2> slots_;
  size_t next_ = 0;
};

}  // namespace

struct Loader::Impl {
  struct File {
    std::multimap<uint64_t, Read> pending;  // by offset
    uint64_t cursor = 0;                    // reading goes on from here, and from the start again
    int active = 0;
  };

  explicit Impl(std::function<void(int64_t, int64_t)> p) : progress(std::move(p)) {}

  void start();
  void work();
  void serve(std::unique_lock<std::mutex>& lock, std::unique_ptr<Staging>& staging);
  std::pair<Read, File*> take();
  void fail(std::exception_ptr e);
  void report();

  const std::function<void(int64_t, int64_t)> progress;
  std::mutex mutex, progress_mutex;
  std::condition_variable wake, idle;
  std::map<const SafetensorsFile*, File> files;
  size_t pending = 0;
  unsigned busy = 0;
  bool stop = false;
  std::exception_ptr error;
  std::atomic<bool> waiting = false;
  std::atomic<int64_t> total = 0, done = 0;
  std::vector<std::thread> threads;
};

void Loader::Impl::start() {
  const unsigned count = std::clamp(std::thread::hardware_concurrency(), 1u, kThreads);
  while (threads.size() < count) threads.emplace_back([this] { work(); });
}

// From the file with the fewest threads on it, the next chunk behind the last one taken.
std::pair<Read, Loader::Impl::File*> Loader::Impl::take() {
  File* best = nullptr;
  for (auto& [key, file] : files)
    if (!file.pending.empty() && (!best || file.active < best->active)) best = &file;
  auto next = best->pending.lower_bound(best->cursor);
  if (next == best->pending.end()) next = best->pending.begin();
  Read read = std::move(next->second);
  best->cursor = read.begin + 1;
  best->pending.erase(next);
  ++best->active, --pending;
  return {std::move(read), best};
}

void Loader::Impl::fail(std::exception_ptr e) {
  const std::lock_guard lock(mutex);
  if (!error) error = std::move(e);
  for (auto& [key, file] : files) file.pending.clear();
  pending = 0;
}

void Loader::Impl::report() {
  if (!progress || !waiting) return;
  const std::lock_guard lock(progress_mutex);
  progress(done, total);
}

void Loader::Impl::serve(std::unique_lock<std::mutex>& lock, std::unique_ptr<Staging>& staging) {
  auto [read, file] = take();
  lock.unlock();
  try {
    if (read.out.is_cpu()) {
      move_to_cpu(read);
    } else {
      if (!staging || staging->device() != read.out.device())
        staging = std::make_unique<Staging>(read.out.device());
      staging->move(read);
    }
    done += read.bytes;
    report();
  } catch (...) {
    fail(std::current_exception());
  }
  read = {};
  lock.lock();
  --file->active;
}

void Loader::Impl::work() {
  const c10::InferenceMode inference;
  std::unique_ptr<Staging> staging;
  std::unique_lock lock(mutex);
  while (true) {
    wake.wait(lock, [&] { return stop || pending > 0; });
    if (stop) return;
    ++busy;
    while (pending > 0 && !stop) serve(lock, staging);
    // Nothing counts as done before the device has it.
    lock.unlock();
    try {
      if (staging) staging->finish();
    } catch (...) {
      fail(std::current_exception());
    }
    lock.lock();
    --busy;
    if (busy == 0 && pending == 0) idle.notify_all();
  }
}

Loader::Loader(std::function<void(int64_t, int64_t)> progress)
    : impl_(std::make_unique<Impl>(std::move(progress))) {}

Loader::~Loader() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stop = true;
  }
  impl_->wake.notify_all();
  for (auto& thread : impl_->threads) thread.join();
}

void Loader::queue(std::shared_ptr<const SafetensorsFile> file, const StoredTensor& stored,
                   const at::Tensor& out) {
  TORCH_CHECK(out.is_contiguous(), "a tensor to load into has to be contiguous, not of strides ",
              out.strides());
  const int64_t size = int64_t(c10::elementSize(stored.dtype)), step = kChunk / size;
  const at::Tensor flat = out.view({-1});
  TORCH_CHECK(uint64_t(flat.numel() * size) == stored.end - stored.begin, "a tensor of ", flat.numel(),
              " elements cannot take ", stored.end - stored.begin, " bytes");
  std::shared_ptr<c10::Event> ready;
  if (!out.is_cpu()) {
    ready = std::make_shared<c10::Event>(out.device().type());
    ready->record(c10::impl::VirtualGuardImpl(out.device().type()).getStream(out.device()));
  }
  const std::lock_guard lock(impl_->mutex);
  if (impl_->error) return;
  for (int64_t i = 0; i < flat.numel(); i += step) {
    const int64_t n = std::min(step, flat.numel() - i);
    Read read{file, stored.begin + uint64_t(i * size), n * size, stored.dtype, flat.narrow(0, i, n), ready};
    impl_->files[file.get()].pending.emplace(read.begin, std::move(read));
    ++impl_->pending;
    impl_->total += n * size;
  }
  impl_->start();
  impl_->wake.notify_all();
}

void Loader::wait() {
  impl_->waiting = true;
  try {
    impl_->report();
  } catch (...) {
    impl_->fail(std::current_exception());
  }
  std::unique_lock lock(impl_->mutex);
  impl_->idle.wait(lock, [&] { return impl_->pending == 0 && impl_->busy == 0; });
  impl_->waiting = false;
  if (impl_->error) std::rethrow_exception(impl_->error);
}

int64_t Loader::bytes_read() const {
  return impl_->done;
}

}  // namespace sagelab
