// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "attention/error.h"
#include "pipelines/core/checkpoint/dtypes.h"
#include "pipelines/core/memory.h"
#include "pipelines/core/safetensors.h"

namespace sagelab {
namespace {

using Named = std::pair<std::string, at::Tensor>;

const Dtype& dtype_row(at::ScalarType dtype) {
  const Dtype* row = find_dtype(dtype);
  if (!row) throw Error(fmt::format("the safetensors format has no dtype for {}", c10::toString(dtype)));
  return *row;
}

// Largest elements first, then by name, as the format's own library does: so every tensor is aligned.
std::vector<Named> in_file_order(const std::map<std::string, at::Tensor>& tensors) {
  std::vector<Named> order;
  for (const auto& [key, tensor] : tensors) {
    TORCH_CHECK(tensor.defined(), "tensor ", key, " is undefined");
    order.emplace_back(key, tensor);
  }
  std::stable_sort(order.begin(), order.end(), [](const Named& a, const Named& b) {
    return dtype_row(a.second.scalar_type()).size > dtype_row(b.second.scalar_type()).size;
  });
  return order;
}

std::string header_of(const std::vector<Named>& order, const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  if (!metadata.empty()) json["__metadata__"] = metadata;
  int64_t at = 0;
  for (const auto& [key, tensor] : order) {
    const int64_t end = at + tensor.numel() * tensor.element_size();
    json[key] = {{"dtype", dtype_row(tensor.scalar_type()).name},
                 {"shape", tensor.sizes().vec()},
                 {"data_offsets", {at, end}}};
    at = end;
  }
  std::string text = json.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  std::string length(8, '\0');
  for (int i = 0; i < 8; ++i) length[i] = char(uint64_t(text.size()) >> (8 * i) & 0xff);
  return length + text;
}

// The file under its temporary name: gone unless it was renamed.
class Draft {
 public:
  Draft(const std::filesystem::path& path, int64_t bytes) : path_(path), bytes_(bytes) {
    draft_ = path;
    draft_ += fmt::format(".{}.part", ::getpid());
    file_ = ::open(draft_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file_ < 0) fail(errno);
  }
  ~Draft() {
    if (file_ >= 0) ::close(file_);
    if (!draft_.empty()) ::unlink(draft_.c_str());
  }
  Draft(const Draft&) = delete;
  Draft& operator=(const Draft&) = delete;

  void write(const void* data, size_t size) {
    for (const char* at = static_cast<const char*>(data); size > 0;) {
      const ssize_t n = ::write(file_, at, std::min(size, size_t(1) << 30));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail(errno);
      at += n, size -= size_t(n);
    }
  }
  void keep() {
    if (::fsync(file_) != 0) fail(errno);
    if (::close(std::exchange(file_, -1)) != 0) fail(errno);
    if (::rename(draft_.c_str(), path_.c_str()) != 0) fail(errno);
    draft_.clear();
    sync_folder();
  }

 private:
  [[noreturn]] void fail(int error) const {
    const bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
    throw Error(fmt::format("{}: cannot be written: {}", path_.string(), std::strerror(error)),
                full
                    ? fmt::format("it takes {}; free some space or choose another place", human_bytes(bytes_))
                    : "choose a path in an existing folder that you may write to");
  }
  // The rename itself lasts only once the folder is on disk. File systems that cannot do this are no failure.
  void sync_folder() const {
    const auto folder = path_.has_parent_path() ? path_.parent_path() : std::filesystem::path(".");
    const int file = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file < 0) return;
    ::fsync(file);
    ::close(file);
  }

  const std::filesystem::path path_;
  const int64_t bytes_;
  std::filesystem::path draft_;
  int file_ = -1;
};

}  // namespace

std::string safetensors_dtype(at::ScalarType dtype) {
  return std::string(dtype_row(dtype).name);
}

void write_safetensors(const std::filesystem::path& path, const std::map<std::string, at::Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  const auto order = in_file_order(tensors);
  const std::string header = header_of(order, metadata);
  int64_t bytes = int64_t(header.size());
  for (const auto& [key, tensor] : order) bytes += tensor.numel() * tensor.element_size();
  Draft draft(path, bytes);
  draft.write(header.data(), header.size());
  for (const auto& [key, tensor] : order) {
    const at::Tensor values = tensor.cpu().contiguous();
    draft.write(values.data_ptr(), values.nbytes());
  }
  draft.keep();
}

}  // namespace sagelab
