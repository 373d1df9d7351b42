// SPDX-License-Identifier: Apache-2.0
// How loading behaves at size: each byte once, threads at work, memory bounded, failures and cancelling told.
#include "pipelines/core/checkpoint/loader.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <fstream>
#include <mutex>
#include <set>
#include <thread>

#include "pipelines/core/memory.h"
#include "pipelines/core/weights.h"
#include "tests/pipelines/core/files.h"

namespace sagelab::testing {
namespace {

constexpr int64_t kRows = 1600, kColumns = 2048;  // 13 MB of fp32: two chunks

// From the start of the process every large tensor is its own mapping. Else what one test frees would stay in
// the heap, and hide what another takes.
[[maybe_unused]] const int kNoHeapForTensors = ::mallopt(M_MMAP_THRESHOLD, 1 << 20);

int64_t resident_bytes() {
  int64_t size = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> size >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

// Sets the peak to what is resident now; false where the system does not allow it.
bool reset_process_peak() {
  std::ofstream stream("/proc/self/clear_refs");
  stream << "5\n" << std::flush;
  return stream.good();
}

int64_t bytes_in(at::ScalarType dtype) {
  return 32 * kRows * kColumns * int64_t(c10::elementSize(dtype));
}

// Four shards of eight tensors, each tensor filled with its own number; 420 MB in fp32.
void write_shards(const Folder& folder, at::ScalarType dtype) {
  nlohmann::json map;
  for (int shard = 0; shard < 4; ++shard) {
    std::map<std::string, at::Tensor> tensors;
    const std::string name = fmt::format("model-{:05}-of-00004.safetensors", shard + 1);
    for (int i = 0; i < 8; ++i) {
      const int number = shard * 8 + i;
      const std::string key = fmt::format("layers.{:02}.weight", number);
      at::Tensor tensor = at::full({kRows, kColumns}, number, dtype);
      tensor[kRows - 1][kColumns - 1] = -number;  // the last element of the last chunk
      tensors[key] = tensor;
      map[key] = name;
    }
    write_safetensors(folder / name, tensors);
  }
  folder.write("model.safetensors.index.json", nlohmann::json({{"weight_map", map}}).dump());
}

class Loading : public ::testing::Test {
 protected:
  // Made once for all tests: they are large.
  static const Folder& shards(at::ScalarType dtype) {
    auto& folder = folders_[dtype];
    if (!folder) {
      folder = std::make_unique<Folder>(fs::path(SAGELAB_FIXTURES) /
                                        fmt::format("loading_{}_{}", ::getpid(), c10::toString(dtype)));
      write_shards(*folder, dtype);
    }
    return *folder;
  }
  static void TearDownTestSuite() { folders_.clear(); }

 private:
  inline static std::map<at::ScalarType, std::unique_ptr<Folder>> folders_;
};

std::vector<at::Tensor> ask_all(const Weights& w) {
  std::vector<at::Tensor> tensors;
  for (int number = 0; number < 32; ++number)  // not in file order
    tensors.push_back(
        (w / "layers" / fmt::format("{:02}", number * 7 % 32)).tensor("weight", {kRows, kColumns}));
  return tensors;
}

void expect_values(const std::vector<at::Tensor>& tensors) {
  for (int i = 0; i < 32; ++i) {
    const int number = i * 7 % 32;
    ASSERT_EQ(tensors[i].sum(at::kDouble).item<double>(), double(number) * (kRows * kColumns - 2)) << number;
    ASSERT_EQ(tensors[i][kRows - 1][kColumns - 1].item<double>(), -number);
  }
}

class LoadingPeak : public Loading,
                    public ::testing::WithParamInterface<std::pair<at::ScalarType, at::ScalarType>> {};

// The most that the process had, against what the component takes.
TEST_P(LoadingPeak, StaysNearTheComponent) {
  const auto [from, to] = GetParam();
  const Folder& folder = shards(from);
  ::malloc_trim(0);
  if (!reset_process_peak()) GTEST_SKIP() << "this system does not let a process reset its peak memory";
  const int64_t before = resident_bytes();
  const auto start = std::chrono::steady_clock::now();
  const Weights w(open_folder(folder.path(), "model"), {at::kCPU, to});
  const auto tensors = ask_all(w);
  w.require_all_read();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const double ratio = double(process_peak_bytes() - before) / double(bytes_in(to));
  RecordProperty("peak_over_component", fmt::format("{:.3f}", ratio));
  RecordProperty("gigabytes_per_second", fmt::format("{:.2f}", double(bytes_in(from)) / seconds / 1e9));
  std::printf("%s to %s: %s in %.2f s, peak %.3f x the component\n", c10::toString(from), c10::toString(to),
              human_bytes(bytes_in(from)).c_str(), seconds, ratio);
  EXPECT_LE(ratio, 1.15);
  EXPECT_GE(ratio, 0.95) << "the measure itself does not see the component";
  expect_values(tensors);
}

INSTANTIATE_TEST_SUITE_P(Dtypes, LoadingPeak,
                         ::testing::Values(std::pair(at::kBFloat16, at::kFloat),
                                           std::pair(at::kFloat, at::kFloat),
                                           std::pair(at::kFloat, at::kBFloat16)),
                         [](const auto& info) {
                           return fmt::format("{}To{}", c10::toString(info.param.first),
                                              c10::toString(info.param.second));
                         });

TEST_F(Loading, ReadsEachByteOnceBySeveralThreadsAndTellsHowFarItIs) {
  const Folder& folder = shards(at::kBFloat16);
  std::set<std::thread::id> threads;
  std::vector<std::pair<int64_t, int64_t>> said;
  Loader loader([&](int64_t done, int64_t total) {
    threads.insert(std::this_thread::get_id());
    said.emplace_back(done, total);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // others get their turn
  });
  std::vector<at::Tensor> tensors;
  for (int shard = 3; shard >= 0; --shard) {
    const auto file = std::make_shared<const SafetensorsFile>(
        folder / fmt::format("model-{:05}-of-00004.safetensors", shard + 1));
    for (const auto& [key, stored] : file->tensors()) {
      tensors.push_back(at::empty(stored.shape, stored.dtype));
      loader.queue(file, stored, tensors.back());
    }
  }
  loader.wait();
  EXPECT_EQ(loader.bytes_read(), bytes_in(at::kBFloat16));
  ASSERT_FALSE(said.empty());
  EXPECT_TRUE(std::is_sorted(said.begin(), said.end()));
  EXPECT_EQ(said.back(), std::pair(bytes_in(at::kBFloat16), bytes_in(at::kBFloat16)));
  for (const auto& [done, total] : said) EXPECT_EQ(total, bytes_in(at::kBFloat16));
  threads.erase(std::this_thread::get_id());
  EXPECT_GE(threads.size(), std::min(2u, std::thread::hardware_concurrency()));
  double sum = 0;
  for (const auto& tensor : tensors) sum += tensor[0][0].item<double>();
  EXPECT_EQ(sum, 31 * 32 / 2);
}

TEST_F(Loading, AFileCutShortMeanwhileIsAnError) {
  const Folder folder;
  fs::copy(shards(at::kBFloat16).path(), folder.path());
  const Weights w(open_folder(folder.path(), "model"), {at::kCPU, at::kFloat});
  const auto cut = folder / "model-00003-of-00004.safetensors";
  fs::resize_file(cut, 4096);
  ask_all(w);
  const std::string error = error_of([&] { w.require_all_read(); });
  EXPECT_TRUE(error.starts_with(cut.string() + ": cannot be read at byte ")) << error;
  EXPECT_TRUE(
      error.ends_with(": the file was cut short, or its disk fails"
                      " | check the disk, and download the file again if it is incomplete"))
      << error;
}

TEST_F(Loading, WhatProgressThrowsStopsTheLoading) {
  const Folder& folder = shards(at::kBFloat16);
  struct Stop {};
  int64_t last = 0;
  const auto progress = [&](int64_t done, int64_t) {
    last = done;
    if (done > 0) throw Stop();
  };
  const Weights w(open_folder(folder.path(), "model", {}, progress), {at::kCPU, at::kFloat});
  ask_all(w);
  EXPECT_THROW(w.require_all_read(), Stop);
  EXPECT_LE(last, bytes_in(at::kBFloat16));
}

// Constructors may throw while threads still read: nothing is waited for, nothing is written to freed memory.
TEST_F(Loading, CanBeDroppedAtAnyTime) {
  const Folder& folder = shards(at::kBFloat16);
  for (int round = 0; round < 20; ++round) {
    const Weights w(open_folder(folder.path(), "model"), {at::kCPU, at::kFloat});
    ask_all(w);
    std::this_thread::sleep_for(std::chrono::milliseconds(round % 5));
  }
}

TEST(Loader, RefusesATensorOfAnotherSize) {
  const Folder folder;
  write_safetensors(folder / "x.safetensors", {{"w", at::ones({4})}});
  const auto file = std::make_shared<const SafetensorsFile>(folder / "x.safetensors");
  Loader loader;
  EXPECT_THROW(loader.queue(file, file->tensors().at("w"), at::empty({5})), c10::Error);
  EXPECT_THROW(loader.queue(file, file->tensors().at("w"), at::empty({2, 2}).t()), c10::Error);
  loader.wait();
}

TEST(Memory, MeasuresThisProcess) {
  const DeviceMemory memory = device_memory(at::kCPU);
  EXPECT_GT(memory.total, int64_t(100) << 20);
  EXPECT_GT(memory.free, 0);
  EXPECT_LE(memory.free, memory.total);
  if (!reset_process_peak()) GTEST_SKIP() << "this system does not let a process reset its peak memory";
  const int64_t before = process_peak_bytes(), used = resident_bytes();
  constexpr size_t kBytes = 100'000'000;
  void* const pages = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(pages, MAP_FAILED);
  std::memset(pages, 1, kBytes);
  EXPECT_NEAR(double(resident_bytes() - used), kBytes, 3e6);
  ::munmap(pages, kBytes);
  EXPECT_NEAR(double(resident_bytes() - used), 0, 3e6);
  EXPECT_NEAR(double(process_peak_bytes() - before), kBytes, 3e6);
}

TEST(Memory, IsToldInPowersOfTen) {
  EXPECT_EQ(human_bytes(12), "12 bytes");
  EXPECT_EQ(human_bytes(400'064), "400 kB");
  EXPECT_EQ(human_bytes(431'167'814), "431 MB");
  EXPECT_EQ(human_bytes(11'140'566'144), "11.14 GB");
}

}  // namespace
}  // namespace sagelab::testing
