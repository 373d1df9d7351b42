// SPDX-License-Identifier: Apache-2.0
#include "pipelines/core/memory.h"

#include <ATen/Context.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>

namespace sagelab {
namespace {

namespace fs = std::filesystem;

// "<key>   <number> kB" in one of /proc's tables; bytes.
int64_t proc_value(const char* file, const std::string& key) {
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);)
    if (line.starts_with(key + ":")) return std::atoll(line.c_str() + key.size() + 1) * 1024;
  return 0;
}

std::optional<int64_t> number_in(const fs::path& file) {
  std::ifstream stream(file);
  int64_t value = 0;
  if (!(stream >> value)) return {};  // "max", or no such file
  return value;
}

int64_t stat_value(const fs::path& file, const std::string& key) {
  std::ifstream stream(file);
  std::string name;
  for (int64_t value; stream >> name >> value;)
    if (name == key) return value;
  return 0;
}

// Where this process stands in the hierarchy of one controller ("" is version 2's).
fs::path group_of(const std::string& controller) {
  std::ifstream stream("/proc/self/cgroup");
  for (std::string line; std::getline(stream, line);) {
    std::istringstream fields(line);
    std::string id, controllers, path;
    std::getline(fields, id, ':'), std::getline(fields, controllers, ':'), std::getline(fields, path);
    if (("," + controllers + ",").find("," + controller + ",") != std::string::npos) return path;
  }
  return "/";
}

struct GroupFiles {
  fs::path root;
  const char *controller, *limit, *usage, *cache;
};

// The tightest limit from this process's control group upwards. A container often sees its own group as the
// root.
void apply_groups(const GroupFiles& files, DeviceMemory& memory) {
  const fs::path relative = group_of(files.controller).relative_path();
  for (fs::path group = files.root / relative;; group = group.parent_path()) {
    const auto limit = number_in(group / files.limit), usage = number_in(group / files.usage);
    if (limit && usage && *limit < memory.total) {
      memory.total = *limit;
      memory.free = std::min(memory.free, *limit - *usage + stat_value(group / "memory.stat", files.cache));
    }
    if (group == files.root || !group.has_relative_path()) break;
  }
}

DeviceMemory host_memory() {
  DeviceMemory memory{proc_value("/proc/meminfo", "MemTotal"), proc_value("/proc/meminfo", "MemAvailable")};
  apply_groups({"/sys/fs/cgroup", "", "memory.max", "memory.current", "inactive_file"}, memory);
  apply_groups({"/sys/fs/cgroup/memory", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                "total_inactive_file"},
               memory);
  memory.free = std::max<int64_t>(memory.free, 0);
  return memory;
}

c10::DeviceAllocator& allocator_of(at::Device device) {
  at::globalContext().lazyInitDevice(device.type());
  return *c10::getDeviceAllocator(device.type());
}

c10::DeviceIndex index_of(at::Device device) {
  return device.has_index() ? device.index() : c10::impl::VirtualGuardImpl(device.type()).getDevice().index();
}

const c10::CachingAllocator::Stat& total_of(const c10::CachingAllocator::StatArray& stats) {
  return stats[size_t(c10::CachingAllocator::StatType::AGGREGATE)];
}

}  // namespace

DeviceMemory device_memory(at::Device device) {
  if (device.is_cpu()) return host_memory();
  auto& allocator = allocator_of(device);
  const auto [free, total] = allocator.getMemoryInfo(index_of(device));
  const auto stats = allocator.getDeviceStats(index_of(device));
  const int64_t cached = total_of(stats.reserved_bytes).current - total_of(stats.allocated_bytes).current;
  return {int64_t(total), int64_t(free) + cached};
}

int64_t available_memory(at::Device device) {
  return device_memory(device).free;
}

int64_t process_peak_bytes() {
  return proc_value("/proc/self/status", "VmHWM");
}

std::string human_bytes(int64_t bytes) {
  if (bytes >= 1'000'000'000) return fmt::format("{:.2f} GB", double(bytes) / 1e9);
  if (bytes >= 1'000'000) return fmt::format("{:.0f} MB", double(bytes) / 1e6);
  if (bytes >= 10'000) return fmt::format("{:.0f} kB", double(bytes) / 1e3);
  return fmt::format("{} bytes", bytes);
}

}  // namespace sagelab
