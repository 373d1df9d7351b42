// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

#include "app/commands/bench/accuracy/accuracy.h"
#include "attention/error.h"
#include "pipelines/core/safetensors.h"

namespace sagelab::bench {

namespace fs = std::filesystem;

namespace {

// [B, S, H, D] to fp32 [B * H, S, D]; kv heads that several heads of q share are repeated.
at::Tensor heads_first(const at::Tensor& x, int64_t heads, at::Device device) {
  const at::Tensor all = x.to(device, at::kFloat).repeat_interleave(heads / x.size(2), 2);
  return all.transpose(1, 2).flatten(0, 1).contiguous();
}

attention::study::Layer read_layer(const fs::path& path, at::Device device) {
  const SafetensorsFile file(path);
  for (const auto* name : {"q", "k", "v"}) {
    if (!file.tensors().contains(name) || file.tensors().at(name).shape.size() != 4)
      throw Error(
          fmt::format("{}: {} [batch, tokens, heads, head dimension] is missing", path.string(), name),
          "give a folder of safetensors files with q, k and v [B, S, H, D]");
  }
  const at::Tensor q = file.tensor("q"), k = file.tensor("k"), v = file.tensor("v");
  if (k.sizes() != v.sizes() || q.size(1) != k.size(1) || q.size(2) % k.size(2) != 0)
    throw Error(fmt::format("{}: q {}, k {} and v {} do not fit each other", path.string(), q.sizes().vec(),
                            k.sizes().vec(), v.sizes().vec()));
  const int64_t heads = q.size(2);
  return {heads_first(q, heads, device), heads_first(k, heads, device), heads_first(v, heads, device)};
}

}  // namespace

LayerSet file_set(const std::string& folder, at::Device device) {
  std::vector<fs::path> files;
  std::error_code failure;
  for (const auto& entry : fs::directory_iterator(folder, failure))
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  if (files.empty())
    throw Error(fmt::format("{}: no safetensors files", folder),
                "give a folder of safetensors files with q, k and v [B, S, H, D]");
  std::sort(files.begin(), files.end());
  const int count = int(files.size());
  return {folder, "q, k and v in files", count,
          [files, device](int i) { return read_layer(files[size_t(i)], device); }};
}

}  // namespace sagelab::bench
