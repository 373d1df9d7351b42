// SPDX-License-Identifier: Apache-2.0
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>

#include <cmath>
#include <map>

#include "pipelines/core/checkpoint/source.h"
#include "pipelines/core/weights.h"

namespace sagelab {
namespace {

// FNV-1a, then the finisher of splitmix64: each key has its own stream, whatever the order of the asking.
uint64_t seed_of(uint64_t seed, std::string_view key) {
  uint64_t hash = 14695981039346656037u;
  for (const unsigned char c : key) hash = (hash ^ c) * 1099511628211u;
  uint64_t z = hash + seed * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

class RandomSource final : public WeightSource {
 public:
  explicit RandomSource(uint64_t seed) : seed_(seed) {}
  std::string where(const std::string&) const override { return "random weights"; }
  bool has(const std::string&) const override { return true; }
  std::optional<std::vector<int64_t>> shape(const std::string&) const override { return {}; }

  // Drawn in out's own dtype where out lives. Spreads keep activations of order one through any depth.
  void fill(const std::string& key, const at::Tensor& out) override {
    at::Generator& generator = generator_of(out.device());
    generator.set_current_seed(seed_of(seed_, key));
    at::Tensor values = out;  // normal_ is an in-place operation on the storage that both share
    if (out.dim() >= 2) {
      const double fan_in = double(out.numel()) / double(std::max<int64_t>(out.size(0), 1));
      values.normal_(0, 1 / std::sqrt(std::max(fan_in, 1.0)), generator);
    } else if (key.ends_with(".weight")) {
      values.uniform_(0.9, 1.1, generator);
    } else {
      values.normal_(0, 0.02, generator);
    }
  }

 private:
  at::Generator& generator_of(at::Device device) {
    at::Generator& generator = generators_[device];
    if (!generator.defined())
      generator = device.is_cpu() ? at::make_generator<at::CPUGeneratorImpl>(uint64_t(0))
                                  : at::globalContext()
                                        .getAcceleratorHooksInterface(device.type())
                                        .getNewGenerator(device.index());
    return generator;
  }
  struct Less {
    bool operator()(at::Device a, at::Device b) const {
      return std::pair(a.type(), a.index()) < std::pair(b.type(), b.index());
    }
  };
  const uint64_t seed_;
  std::map<at::Device, at::Generator, Less> generators_;
};

class ShapeSource final : public WeightSource {
 public:
  explicit ShapeSource(std::function<bool(std::string_view)> has) : has_(std::move(has)) {}
  std::string where(const std::string&) const override { return "a model without weights"; }
  bool has(const std::string& key) const override { return !has_ || has_(key); }
  std::optional<std::vector<int64_t>> shape(const std::string&) const override { return {}; }
  void fill(const std::string& key, const at::Tensor& out) override {
    TORCH_CHECK(false, "shape_source has no values for ", key, " on ", out.device(),
                ": it serves the meta device");
  }

 private:
  const std::function<bool(std::string_view)> has_;
};

}  // namespace

std::shared_ptr<WeightSource> random_source(uint64_t seed) {
  return std::make_shared<RandomSource>(seed);
}

std::shared_ptr<WeightSource> shape_source(std::function<bool(std::string_view key)> has) {
  return std::make_shared<ShapeSource>(std::move(has));
}

}  // namespace sagelab
