// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "attention/error.h"
#include "pipelines/core/checkpoint/dtypes.h"
#include "pipelines/core/files/atomic_file.h"
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

}  // namespace

std::string safetensors_dtype(at::ScalarType dtype) {
  return std::string(dtype_row(dtype).name);
}

void write_safetensors(const std::filesystem::path& path, const std::map<std::string, at::Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  const auto order = in_file_order(tensors);
  const std::string header = header_of(order, metadata);
  AtomicFile file(path);
  file.write(header);
  for (const auto& [key, tensor] : order) {
    const at::Tensor values = tensor.cpu().contiguous();
    file.write({static_cast<const char*>(values.const_data_ptr()), values.nbytes()});
  }
  file.commit();
}

}  // namespace sagelab
