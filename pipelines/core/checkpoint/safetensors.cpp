// SPDX-License-Identifier: Apache-2.0
#include "pipelines/core/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <utility>

#include "attention/error.h"
#include "pipelines/core/checkpoint/dtypes.h"
#include "pipelines/core/config.h"

namespace sagelab {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxHeader = 100'000'000;  // the format's own limit
constexpr const char* kDamaged = "the file is damaged or not a safetensors file; download it again";
constexpr const char* kIncomplete = "the file is incomplete; download or copy it again";

// A header is somebody else's text: keep it on one line.
std::string printable(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
  if (text.size() > 200) text = text.substr(0, 197) + "...";
  return text;
}

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& what,
                         const char* hint = kDamaged) {
  throw Error(fmt::format("{}: {}", path.string(), what), hint);
}

// nlohmann keeps the last of several equal keys and says nothing; nothing in a header lies deeper than a
// shape.
class Strict {
 public:
  explicit Strict(const std::filesystem::path& path) : path_(path) {}
  bool operator()(int depth, Json::parse_event_t event, Json& parsed) {
    using Event = Json::parse_event_t;
    if (depth > 3) refuse(path_, "the header is nested deeper than the format allows");
    if (event == Event::object_start) keys_.emplace_back();
    if (event == Event::object_end) keys_.pop_back();
    if (event == Event::key && !keys_.back().insert(parsed.get_ref<const std::string&>()).second)
      refuse(path_, fmt::format("the header names {} twice", printable(parsed.get<std::string>())));
    return true;
  }

 private:
  const std::filesystem::path& path_;
  std::vector<std::set<std::string>> keys_;
};

const Json& field(const std::filesystem::path& path, const std::string& key, const Json& entry,
                  const char* name) {
  const auto it = entry.find(name);
  if (it == entry.end()) refuse(path, fmt::format("tensor {} has no {}", printable(key), name));
  return *it;
}

// Offsets and sizes: integers from 0 to 2^63 - 1.
bool is_count(const Json& value) {
  return value.is_number_unsigned() && value.get<uint64_t>() <= uint64_t(std::numeric_limits<int64_t>::max());
}

std::string dump(const Json& value) {
  return printable(value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

StoredTensor parse_entry(const std::filesystem::path& path, const std::string& key, const Json& entry) {
  const auto fail = [&](const std::string& what) {
    refuse(path, fmt::format("tensor {} {}", printable(key), what));
  };
  if (!entry.is_object()) fail(fmt::format("is described by {}, not by an object", entry.type_name()));
  for (const auto& [name, value] : entry.items())
    if (name != "dtype" && name != "shape" && name != "data_offsets")
      fail(fmt::format("has an unknown field {}", printable(name)));
  const Json& dtype = field(path, key, entry, "dtype");
  const Json& shape = field(path, key, entry, "shape");
  const Json& offsets = field(path, key, entry, "data_offsets");
  StoredTensor stored;
  const auto* row = dtype.is_string() ? find_dtype(dtype.get_ref<const std::string&>()) : nullptr;
  if (!row)
    refuse(path, fmt::format("tensor {} has dtype {}, which is not supported", printable(key), dump(dtype)),
           "known are F64, F32, F16, BF16, F8_E4M3, F8_E5M2, I64, I32, I16, I8, U8 and BOOL");
  stored.dtype = row->dtype;
  if (!shape.is_array() || !std::all_of(shape.begin(), shape.end(), is_count))
    fail(fmt::format("has shape {}: a list of integers from 0 is expected", dump(shape)));
  stored.shape = shape.get<std::vector<int64_t>>();
  if (!offsets.is_array() || offsets.size() != 2 || !is_count(offsets[0]) || !is_count(offsets[1]))
    fail(fmt::format("has data_offsets {}: two integers from 0 are expected", dump(offsets)));
  stored.begin = offsets[0].get<uint64_t>(), stored.end = offsets[1].get<uint64_t>();
  if (stored.begin > stored.end)
    fail(fmt::format("ends at {}, before it begins at {}", stored.end, stored.begin));
  uint64_t bytes = row->size;
  for (const int64_t n : stored.shape)
    if (__builtin_mul_overflow(bytes, uint64_t(n), &bytes))
      fail(fmt::format("is too large: shape {}", dump(shape)));
  if (bytes != stored.end - stored.begin)
    fail(fmt::format("has {} bytes, but shape {} of {} takes {}", stored.end - stored.begin, dump(shape),
                     row->name, bytes));
  return stored;
}

std::map<std::string, std::string> parse_metadata(const std::filesystem::path& path, const Json& metadata) {
  const bool fits = metadata.is_object() && std::all_of(metadata.begin(), metadata.end(),
                                                        [](const Json& v) { return v.is_string(); });
  if (!fits) refuse(path, "__metadata__ is not a map from strings to strings");
  return metadata.get<std::map<std::string, std::string>>();
}

uint64_t little_endian(const std::byte* bytes) {
  uint64_t value = 0;
  for (int i = 7; i >= 0; --i) value = value << 8 | uint64_t(bytes[i]);
  return value;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : path_(path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat status = {};
  const bool opened = file >= 0 && ::fstat(file, &status) == 0;
  int error = opened ? 0 : errno;
  if (opened && S_ISDIR(status.st_mode)) error = EISDIR;
  if (!error && status.st_size > 0) {
    void* mapped = ::mmap(nullptr, size_t(status.st_size), PROT_READ, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED)
      error = errno;
    else
      data_ = static_cast<const std::byte*>(mapped), size_ = size_t(status.st_size);
  }
  if (file >= 0) ::close(file);
  if (error)
    throw Error(fmt::format("{}: cannot be read: {}", path.string(), std::strerror(error)),
                error == ENOENT ? "the checkpoint is incomplete; download the file" : "");
  try {
    read_header();
  } catch (...) {
    if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
    throw;
  }
}

SafetensorsFile::~SafetensorsFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

void SafetensorsFile::read_header() {
  const std::string_view text(reinterpret_cast<const char*>(data_), size_);
  if (text.starts_with("version https://git-lfs"))
    refuse(path_, "is a Git LFS pointer, not the tensors themselves",
           "run `git lfs pull` in the checkpoint's folder");
  if (size_ < 8)
    refuse(path_, fmt::format("has {} bytes: too short for a safetensors file", size_), kIncomplete);
  const uint64_t length = little_endian(data_);
  if (length > kMaxHeader)
    refuse(path_,
           fmt::format("the header is said to have {} bytes; the format allows {}", length, kMaxHeader));
  if (length > size_ - 8)
    refuse(path_,
           fmt::format("the header has {} bytes, but the file ends after {} of them", length, size_ - 8),
           kIncomplete);
  const std::string_view header = text.substr(8, length);
  if (!header.starts_with('{')) refuse(path_, "the header does not start with {");
  Json json;
  try {
    json = Json::parse(header, Strict(path_));
  } catch (const Json::exception& e) {
    refuse(path_, fmt::format("the header is not valid JSON: {}", printable(json_reason(e))));
  }
  const uint64_t data_begin = 8 + length;
  for (const auto& [key, entry] : json.items()) {
    if (key == "__metadata__") {
      metadata_ = parse_metadata(path_, entry);
      continue;
    }
    tensors_.emplace(key, parse_entry(path_, key, entry));
  }
  check_layout(data_begin);
  for (auto& [key, stored] : tensors_) stored.begin += data_begin, stored.end += data_begin;
}

// The data is what the tensors take, without a gap, an overlap or a rest. Offsets are still relative here.
void SafetensorsFile::check_layout(uint64_t data_begin) const {
  const uint64_t available = size_ - data_begin;
  std::vector<std::pair<const StoredTensor*, const std::string*>> order;
  for (const auto& [key, stored] : tensors_) order.emplace_back(&stored, &key);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first->begin, a.first->end) < std::pair(b.first->begin, b.first->end);
  });
  uint64_t at = 0;
  for (const auto& [stored, key] : order) {
    const std::string name = printable(*key);
    if (stored->begin < at)
      refuse(path_, fmt::format("tensor {} begins at {}, inside the one before it, which ends at {}", name,
                                stored->begin, at));
    if (stored->begin > at)
      refuse(path_,
             fmt::format("bytes {} to {} before tensor {} belong to no tensor", at, stored->begin, name));
    if (stored->end > available)
      refuse(path_,
             fmt::format("tensor {} ends at {}, but the file holds {} bytes of tensors", name, stored->end,
                         available),
             kIncomplete);
    at = stored->end;
  }
  if (at != available)
    refuse(path_, fmt::format("{} bytes after the last tensor belong to no tensor", available - at));
}

at::Tensor SafetensorsFile::tensor(const std::string& key) const {
  const auto it = tensors_.find(key);
  if (it == tensors_.end()) throw Error(fmt::format("{}: tensor {} is missing", path_.string(), key));
  const StoredTensor& stored = it->second;
  at::Tensor out = at::empty(stored.shape, stored.dtype);
  if (stored.end > stored.begin) std::memcpy(out.data_ptr(), data_ + stored.begin, stored.end - stored.begin);
  return out;
}

}  // namespace sagelab
