// SPDX-License-Identifier: Apache-2.0
// The safetensors format: 8 bytes little-endian header length, a JSON header, then the tensors back to back.
// Every rule of the format is enforced before a single tensor is looked at; each violation is a
// sagelab::Error that names the file (and the tensor).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace sagelab {

// One tensor as the header describes it.
struct StoredTensor {
  at::ScalarType dtype = at::kFloat;
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;  // bytes from the start of the file
};

// The format's name: "F32", "BF16", "F8_E4M3" ...; throws sagelab::Error for a dtype that it does not have.
std::string safetensors_dtype(at::ScalarType dtype);

// A mapped file; the map is taken down with the object. Reading pages is left to the caller: see
// checkpoint/loader.h.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  const std::map<std::string, StoredTensor>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  // The whole file. A page may be gone if the file was cut short after it was opened.
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  // A copy on the CPU; throws sagelab::Error where the file has no such tensor.
  at::Tensor tensor(const std::string& key) const;

 private:
  void read_header();
  void check_layout(uint64_t data_begin) const;

  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  std::map<std::string, StoredTensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

// Written beside the path under another name, synced, then renamed: the path holds a whole file or what it
// held before. Tensors may live anywhere and have any strides. Throws sagelab::Error: unwritable, disk full.
void write_safetensors(const std::filesystem::path& path, const std::map<std::string, at::Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace sagelab
