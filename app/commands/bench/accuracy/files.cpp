// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
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

constexpr const char* kWanted = "give a folder of safetensors files with q, k and v [B, S, H, D]";

void check_shapes(const SafetensorsFile& file) {
  for (const auto* name : {"q", "k", "v"}) {
    if (!file.tensors().contains(name) || file.tensors().at(name).shape.size() != 4)
      throw Error(
          fmt::format("{}: {} [batch, tokens, heads, head dimension] is missing", file.path().string(), name),
          kWanted);
  }
  const auto shape = [&](const char* name) { return file.tensors().at(name).shape; };
  const auto q = shape("q"), k = shape("k"), v = shape("v");
  if (k != v || q[0] != k[0] || q[1] != k[1] || q[3] != k[3] || k[2] == 0 || q[2] % k[2] != 0)
    throw Error(fmt::format("{}: q {}, k {} and v {} do not fit each other", file.path().string(), q, k, v));
}

// The studies are of calls without a mask, scaled by 1/sqrt(D): where a file says which call it is of, that
// call must be one.
void check_call(const SafetensorsFile& file) {
  constexpr double kRounding = 1e-6;
  constexpr const char* kHint = "leave this file out";
  const auto& metadata = file.metadata();
  if (const auto causal = metadata.find("causal"); causal != metadata.end() && causal->second != "false")
    throw Error(fmt::format("{}: causal is {} in its metadata, and the studies are of calls without a mask",
                            file.path().string(), causal->second),
                kHint);
  const auto scale = metadata.find("scale");
  if (scale == metadata.end()) return;
  const double wanted = 1 / std::sqrt(double(file.tensors().at("q").shape[3]));
  const auto& text = scale->second;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool number = error == std::errc() && end == text.data() + text.size();
  if (!number || !(std::abs(value / wanted - 1) <= kRounding))
    throw Error(
        fmt::format("{}: scale is {} in its metadata, and the studies are of calls with 1/sqrt(D), {}",
                    file.path().string(), text, wanted),
        kHint);
}

attention::study::Layer read_layer(const fs::path& path, at::Device device) {
  const SafetensorsFile file(path);
  const at::Tensor q = file.tensor("q"), k = file.tensor("k"), v = file.tensor("v");
  const int64_t heads = q.size(2);
  return {heads_first(q, heads, device), heads_first(k, heads, device), heads_first(v, heads, device)};
}

}  // namespace

LayerSet file_set(const std::string& folder, at::Device device) {
  std::vector<fs::path> files;
  std::error_code failure;
  for (const auto& entry : fs::directory_iterator(folder, failure))
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  if (failure) throw Error(fmt::format("{}: {}", folder, failure.message()), kWanted);
  if (files.empty()) throw Error(fmt::format("{}: no safetensors files", folder), kWanted);
  std::sort(files.begin(), files.end());
  for (const fs::path& path : files) {  // before any is studied, which takes long
    const SafetensorsFile file(path);
    check_shapes(file);
    check_call(file);
  }
  const int count = int(files.size());
  return {folder, "q, k and v in files", count,
          [files, device](int i) { return read_layer(files[size_t(i)], device); }};
}

}  // namespace sagelab::bench
