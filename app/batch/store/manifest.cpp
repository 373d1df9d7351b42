// SPDX-License-Identifier: Apache-2.0
#include "app/batch/store/manifest.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <optional>
#include <sstream>
#include <utility>

#include "attention/error.h"
#include "pipelines/core/files/atomic_file.h"

namespace sagelab::batch {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;

std::string read_text(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

std::optional<json> record_of(std::string_view line) {
  auto record = json::parse(line, nullptr, false);
  const auto is_number = [&](const char* key) {
    const auto value = record.find(key);
    return value != record.end() && value->is_number_integer();
  };
  if (!record.is_object() || !is_number("index") || !is_number("take") || !record.contains("status"))
    return std::nullopt;
  return record;
}

SampleKey key_of(const json& record) {
  return {record.at("index").get<int>(), record.at("take").get<int>()};
}

struct Parsed {
  Records records;
  size_t whole = 0;  // bytes up to the end of the last line that is whole
};

// Of a crash only the last line can be torn: with its end missing, or with zeros where data never arrived.
Parsed parse(const fs::path& file, std::string_view text) {
  Parsed parsed;
  for (int number = 1; parsed.whole < text.size(); ++number) {
    const auto end = text.find('\n', parsed.whole);
    if (end == std::string_view::npos) break;
    const auto record = record_of(text.substr(parsed.whole, end - parsed.whole));
    if (!record && end + 1 == text.size()) break;
    if (!record)
      throw Error(fmt::format("{}: line {} is damaged", file.string(), number),
                  "remove that line: its sample is then made again");
    parsed.records[key_of(*record)] = *record;
    parsed.whole = end + 1;
  }
  return parsed;
}

// The division that a manifest's name tells of; none where the file is no manifest.
std::optional<Shard> shard_of(const std::string& name) {
  if (name == manifest_name({})) return Shard{};
  Shard shard;
  if (std::sscanf(name.c_str(), "manifest-%d-of-%d.jsonl", &shard.index, &shard.count) != 2 ||
      name != manifest_name(shard))
    return std::nullopt;
  return shard;
}

void sync_parent(const fs::path& file) {
  const int folder = ::open(file.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return;
  ::fsync(folder);
  ::close(folder);
}

}  // namespace

std::string manifest_name(const Shard& shard) {
  if (shard.count == 1) return "manifest.jsonl";
  return fmt::format("manifest-{}-of-{}.jsonl", shard.index, shard.count);
}

fs::path lock_file(const fs::path& folder, const Shard& shard) {
  return folder / fmt::format(".{}.lock", manifest_name(shard));
}

void check_sharding(const fs::path& folder, const Shard& shard) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const auto name = entry.path().filename().string();
    const auto other = shard_of(name);
    if (!other || other->count == shard.count) continue;
    const auto told = [](int count) {
      return count == 1 ? std::string("without --shard") : fmt::format("with --shard i/{}", count);
    };
    throw Error(fmt::format("{} holds a batch {} ({}), and this one is {}", folder.string(),
                            told(other->count), name, told(shard.count)),
                "go on as it was begun, or choose another --output");
  }
}

Records merged_records(const fs::path& folder, int shards) {
  Records all;
  for (int i = 1; i <= shards; ++i) {
    const auto file = folder / manifest_name({i, shards});
    if (fs::exists(file)) all.merge(parse(file, read_text(file)).records);
  }
  return all;
}

Manifest::Manifest(fs::path file) : file_(std::move(file)) {
  const bool made = !fs::exists(file_);
  descriptor_ = ::open(file_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (descriptor_ < 0) cannot_write(file_, errno);
  try {
    const auto text = read_text(file_);
    auto parsed = parse(file_, text);
    records_ = std::move(parsed.records);
    if (parsed.whole < text.size()) {
      repaired_ = fmt::format("{}: its last line was left unfinished ({} bytes) and is cut off",
                              file_.string(), text.size() - parsed.whole);
      if (::ftruncate(descriptor_, off_t(parsed.whole)) != 0) cannot_write(file_, errno);
    }
    if (::fsync(descriptor_) != 0 && errno != EINVAL) cannot_write(file_, errno);
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
  if (made) sync_parent(file_);
}

Manifest::~Manifest() {
  ::close(descriptor_);
}

void Manifest::append(const json& record) {
  const auto key = key_of(record);
  if (const auto known = records_.find(key); known != records_.end() && known->second == record) return;
  const auto line = record.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  const auto end = ::lseek(descriptor_, 0, SEEK_END);
  std::string_view rest = line;
  while (!rest.empty()) {
    const auto n = ::write(descriptor_, rest.data(), rest.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const int error = errno;
      // Half a line would be damage once the disk has room again and a whole one follows.
      [[maybe_unused]] const int cut = ::ftruncate(descriptor_, end);
      cannot_write(file_, error);
    }
    rest.remove_prefix(size_t(n));
  }
  if (::fsync(descriptor_) != 0 && errno != EINVAL) cannot_write(file_, errno);
  records_[key] = record;
}

}  // namespace sagelab::batch
