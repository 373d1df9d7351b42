// SPDX-License-Identifier: Apache-2.0
#include "pipelines/core/weights.h"

#include <c10/util/Exception.h>
#include <fmt/ranges.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "attention/error.h"
#include "pipelines/core/checkpoint/source.h"
#include "pipelines/core/memory.h"

namespace sagelab {

namespace {

// Where memory comes in pages of 4 KiB, taking it costs more than reading the file. Whole huge pages inside
// the tensor alone, so that none of them reaches beyond it; the system may decline.
void prefer_huge_pages(const at::Tensor& tensor) {
  constexpr uintptr_t kHuge = uintptr_t(2) << 20;
  const auto begin = (reinterpret_cast<uintptr_t>(tensor.data_ptr()) + kHuge - 1) / kHuge * kHuge;
  const auto end = (reinterpret_cast<uintptr_t>(tensor.data_ptr()) + tensor.nbytes()) / kHuge * kHuge;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
}

}  // namespace

struct Weights::Asked {
  std::map<std::string, std::vector<int64_t>> shapes;
  int64_t bytes = 0, largest_e4m3 = 0;
};

Weights::Weights(std::shared_ptr<WeightSource> source, Target target)
    : source_(std::move(source)), asked_(std::make_shared<Asked>()), target_(target) {}

std::string Weights::full(std::string_view name) const {
  if (prefix_.empty()) return std::string(name);
  return name.empty() ? prefix_ : fmt::format("{}.{}", prefix_, name);
}

Weights Weights::operator/(std::string_view prefix) const {
  Weights view = *this;
  view.prefix_ = full(prefix);
  return view;
}

Weights Weights::operator/(int64_t index) const {
  return *this / std::to_string(index);
}

Weights Weights::placed(std::shared_ptr<Placement> placement) const {
  Weights view = *this;
  view.placement_ = std::move(placement);
  return view;
}

bool Weights::has(std::string_view name) const {
  return source_->has(full(name));
}

void Weights::ask(const std::string& key, at::IntArrayRef shape) const {
  if (!source_->has(key))
    throw Error(fmt::format("{}: tensor {} is missing", source_->where(key), key),
                "the weights belong to another model than config.json, or are incomplete");
  const auto stored = source_->shape(key);
  if (stored && at::IntArrayRef(*stored) != shape)
    throw Error(fmt::format("{}: tensor {} has shape [{}], but [{}] is expected", source_->where(key), key,
                            fmt::join(*stored, ", "), fmt::join(shape, ", ")),
                "the weights belong to another model than config.json");
  asked_->shapes[key] = shape.vec();
}

Placement::Place Weights::allocate(const std::string& key, at::IntArrayRef shape,
                                   std::optional<at::ScalarType> dtype) const {
  if (placement_) return placement_->place(shape, dtype.value_or(target_.dtype));
  const auto options = at::TensorOptions().dtype(dtype.value_or(target_.dtype)).device(target_.device);
  try {
    const at::Tensor tensor = at::empty(shape, options);
    asked_->bytes += int64_t(tensor.nbytes());
    if (tensor.is_cpu()) prefer_huge_pages(tensor);
    return {tensor, tensor.is_meta() ? at::Tensor() : tensor};
  } catch (const c10::Error& e) {
    const bool full =
        dynamic_cast<const c10::OutOfMemoryError*>(&e) || std::strstr(e.what(), "DefaultCPUAllocator");
    if (!full) throw;
    const int64_t bytes = c10::multiply_integers(shape) * int64_t(options.dtype().itemsize());
    throw Error(fmt::format("out of memory on {} while loading {}: it takes {}, and {} are free",
                            target_.device.str(), key, human_bytes(bytes),
                            human_bytes(available_memory(target_.device))),
                "free memory there, or choose a smaller model or dtype");
  }
}

void Weights::fill(const std::string& key, const at::Tensor& values) const {
  if (values.defined()) source_->fill(key, values);
}

void Weights::fill_scale(const std::string& key, const at::Tensor& values) const {
  if (!values.defined()) return;
  if (const at::Tensor stored = source_->scale(key); stored.defined())
    values.copy_(stored);
  else
    values.fill_(1);
}

at::Tensor Weights::tensor(std::string_view name, at::IntArrayRef shape,
                           std::optional<at::ScalarType> dtype) const {
  const std::string key = full(name);
  ask(key, shape);
  const auto [tensor, values] = allocate(key, shape, dtype);
  fill(key, values);
  return tensor;
}

Linear Weights::linear(std::string_view name, int64_t out, int64_t in, bool bias,
                       std::optional<at::ScalarType> dtype) const {
  const Weights w = *this / name;
  const std::string key = w.full("weight");
  const bool narrow = !dtype && source_->is_e4m3(key);
  Linear linear;
  linear.weight = w.tensor("weight", {out, in}, narrow ? at::kFloat8_e4m3fn : dtype);
  if (narrow) {
    const auto [scale, values] = allocate(key, {out}, at::kFloat);
    linear.scale = scale;
    fill_scale(key, values);
    asked_->largest_e4m3 = std::max(asked_->largest_e4m3, out * in);
  }
  if (bias) linear.bias = w.tensor("bias", {out}, dtype);
  return linear;
}

Linear Weights::stacked(std::span<const std::string_view> names, std::span<const int64_t> outs, int64_t in,
                        bool bias) const {
  TORCH_CHECK(names.size() == outs.size() && !names.empty(), names.size(), " linears stacked with ",
              outs.size(), " widths");
  int64_t total = 0;
  bool narrow = true;
  for (size_t i = 0; i < names.size(); ++i) {
    const Weights w = *this / names[i];
    w.ask(w.full("weight"), {outs[i], in});
    if (bias) w.ask(w.full("bias"), {outs[i]});
    narrow = narrow && source_->is_e4m3(w.full("weight"));
    total += outs[i];
  }
  const auto place = [&](const char* leaf, at::IntArrayRef shape, std::optional<at::ScalarType> dtype) {
    return allocate((*this / names[0]).full(leaf), shape, dtype);
  };
  const auto weight = place("weight", {total, in}, narrow ? std::optional(at::kFloat8_e4m3fn) : std::nullopt);
  const auto scale = narrow ? place("weight", {total}, at::kFloat) : Placement::Place();
  const auto biases = bias ? place("bias", {total}, {}) : Placement::Place();
  if (narrow) asked_->largest_e4m3 = std::max(asked_->largest_e4m3, total * in);
  const auto rows = [](const at::Tensor& values, int64_t begin, int64_t count) {
    return values.defined() ? values.narrow(0, begin, count) : values;
  };
  int64_t row = 0;
  for (size_t i = 0; i < names.size(); row += outs[i], ++i) {
    const Weights w = *this / names[i];
    fill(w.full("weight"), rows(weight.values, row, outs[i]));
    fill_scale(w.full("weight"), rows(scale.values, row, outs[i]));
    fill(w.full("bias"), rows(biases.values, row, outs[i]));
  }
  return {weight.tensor, biases.tensor, scale.tensor};
}

void Weights::require_all_read(std::span<const std::string_view> ignored) const {
  source_->wait();
  std::vector<std::string> unread;
  for (const auto& key : source_->keys()) {
    const auto covers = [&](std::string_view prefix) { return key.starts_with(prefix); };
    const bool ours = prefix_.empty() || key.starts_with(prefix_ + ".");
    if (ours && !asked_->shapes.contains(key) && std::none_of(ignored.begin(), ignored.end(), covers))
      unread.push_back(key);
  }
  if (unread.empty()) return;
  constexpr size_t kShown = 5;
  std::string names =
      fmt::format("{}", fmt::join(unread.begin(), unread.begin() + std::min(unread.size(), kShown), ", "));
  if (unread.size() > kShown) names += fmt::format(" and {} more", unread.size() - kShown);
  throw Error(fmt::format("{}: {} {} no part of this model: {}", source_->where(unread.front()),
                          unread.size(), unread.size() == 1 ? "tensor is" : "tensors are", names),
              "the weights belong to another model than config.json");
}

std::vector<std::pair<std::string, std::vector<int64_t>>> Weights::requested() const {
  return {asked_->shapes.begin(), asked_->shapes.end()};
}

int64_t Weights::bytes() const {
  return asked_->bytes;
}

void Weights::count(int64_t bytes) const {
  asked_->bytes += bytes;
}

int64_t Weights::largest_e4m3() const {
  return asked_->largest_e4m3;
}

}  // namespace sagelab
