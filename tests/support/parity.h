// SPDX-License-Identifier: Apache-2.0
// What every parity test needs: the dumps of the oracles, and how far we are from them. The reader here
// shares no code with the product's, so that neither can hide a fault of the other.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace sagelab::testing {

inline at::ScalarType dump_dtype(const std::string& name) {
  static const std::map<std::string, at::ScalarType> kTypes = {
      {"F64", at::kDouble},    {"F32", at::kFloat}, {"F16", at::kHalf},
      {"BF16", at::kBFloat16}, {"I64", at::kLong},  {"I32", at::kInt},
      {"U8", at::kByte},       {"I8", at::kChar},   {"BOOL", at::kBool}};
  return kTypes.at(name);
}

// Every tensor of an oracle's safetensors file, in memory.
class Dump {
 public:
  explicit Dump(const std::filesystem::path& file) : file_(file.string()) {
    std::ifstream stream(file, std::ios::binary);
    if (!stream) throw std::runtime_error(file_ + ": no such dump; the fixtures were not made");
    uint64_t header_size = 0;
    stream.read(reinterpret_cast<char*>(&header_size), sizeof header_size);
    std::string header(header_size, '\0');
    stream.read(header.data(), std::streamsize(header_size));
    const auto entries = nlohmann::json::parse(header);
    for (const auto& [key, entry] : entries.items()) {
      if (key == "__metadata__") continue;
      const auto shape = entry.at("shape").get<std::vector<int64_t>>();
      at::Tensor tensor = at::empty(shape, dump_dtype(entry.at("dtype").get<std::string>()));
      stream.seekg(std::streamoff(8 + header_size + entry.at("data_offsets").at(0).get<uint64_t>()));
      stream.read(static_cast<char*>(tensor.data_ptr()), std::streamsize(tensor.nbytes()));
      if (!stream) throw std::runtime_error(file_ + ": " + key + " is cut short");
      tensors_.emplace(key, std::move(tensor));
    }
  }

  bool has(const std::string& key) const { return tensors_.count(key) != 0; }
  const at::Tensor& operator[](const std::string& key) const {
    const auto it = tensors_.find(key);
    if (it == tensors_.end()) throw std::runtime_error(file_ + ": no tensor " + key);
    return it->second;
  }
  const std::map<std::string, at::Tensor>& tensors() const { return tensors_; }

 private:
  std::string file_;
  std::map<std::string, at::Tensor> tensors_;
};

// ||ours - theirs|| / ||theirs|| in fp64; infinite where shapes differ or ours is not finite.
inline double relative_l2(const at::Tensor& ours, const at::Tensor& theirs) {
  if (ours.sizes() != theirs.sizes()) return std::numeric_limits<double>::infinity();
  const at::Tensor a = ours.to(at::kCPU, at::kDouble), b = theirs.to(at::kCPU, at::kDouble);
  const double error = (a - b).norm().item<double>() / std::max(b.norm().item<double>(), 1e-300);
  return std::isfinite(error) ? error : std::numeric_limits<double>::infinity();
}

// What ours may be off by: the bound, or three times the oracle's own rounding where the dump has its fp64
// twin.
inline double tolerance(const Dump& dump, const std::string& key, double bound) {
  if (!dump.has(key + ".fp64")) return bound;
  return std::max(bound, 3 * relative_l2(dump[key], dump[key + ".fp64"]));
}

inline ::testing::AssertionResult matches(const at::Tensor& ours, const Dump& dump, const std::string& key,
                                          double bound) {
  const double error = relative_l2(ours, dump[key]), allowed = tolerance(dump, key, bound);
  if (error <= allowed) return ::testing::AssertionSuccess();
  std::ostringstream text;
  text << key << ": relative L2 " << error << " > " << allowed << "; ours " << ours.sizes() << ", oracle "
       << dump[key].sizes();
  return ::testing::AssertionFailure() << text.str();
}

// Within the bound itself, however exact the oracle is.
inline ::testing::AssertionResult matches_within(const at::Tensor& ours, const Dump& dump,
                                                 const std::string& key, double bound) {
  const double error = relative_l2(ours, dump[key]);
  if (error <= bound) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << key << ": relative L2 " << error << " > " << bound << "; ours "
                                       << ours.sizes() << ", oracle " << dump[key].sizes();
}

#ifdef SAGELAB_FIXTURES
// The folder of one fixture: model/, request.json, dump.safetensors.
inline std::filesystem::path fixture(const std::string& family, const std::string& name) {
  return std::filesystem::path(SAGELAB_FIXTURES) / family / name;
}
#endif

}  // namespace sagelab::testing
