// SPDX-License-Identifier: Apache-2.0
// Read-only, prefixed views of a component's tensors: `(w / "attn1").linear("to_q", 3072, 3072)`.
//
// Asking for a tensor allocates it on the target and queues its bytes; a pool of threads reads, converts and
// uploads while constructors go on. Contents are valid once require_all_read() has returned: a constructor
// may keep and view a tensor, never compute with it.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pipelines/core/checkpoint/original.h"
#include "pipelines/core/layers.h"
#include "pipelines/core/stream/placement.h"

namespace sagelab {

class WeightSource;  // where tensors come from: a folder, random numbers

class Weights {
 public:
  Weights(std::shared_ptr<WeightSource> source, Target target);

  Weights operator/(std::string_view prefix) const;
  Weights operator/(int64_t index) const;
  Weights placed(std::shared_ptr<Placement> placement) const;  // a view whose tensors go there

  // Throws sagelab::Error with the full key and both shapes where it is missing or of another shape.
  // dtype: other than the target's (T5 keeps wo in fp32).
  at::Tensor tensor(std::string_view name, at::IntArrayRef shape,
                    std::optional<at::ScalarType> dtype = {}) const;
  // name.weight [out, in] and, if bias, name.bias [out]. A weight that is stored in e4m3 stays so, with its
  // scale, unless a dtype is asked for.
  Linear linear(std::string_view name, int64_t out, int64_t in, bool bias = true,
                std::optional<at::ScalarType> dtype = {}) const;
  // Several linears of one input stacked into one weight [sum(out), in], in order: fused q, k, v. In e4m3
  // where all of them are.
  Linear stacked(std::span<const std::string_view> names, std::span<const int64_t> outs, int64_t in,
                 bool bias = true) const;
  bool has(std::string_view name) const;
  const Target& target() const { return target_; }

  // Waits for every queued read, rethrows the first failure, then throws sagelab::Error naming tensors in the
  // source that nobody asked for, except those under the ignored prefixes.
  void require_all_read(std::span<const std::string_view> ignored = {}) const;
  // (full key, shape) of everything asked for so far, sorted: what a model reads.
  std::vector<std::pair<std::string, std::vector<int64_t>>> requested() const;
  int64_t bytes() const;            // what all of that takes on the target; on the meta target, what it would
  void count(int64_t bytes) const;  // adds to that: what placements take, which it does not see
  // Elements of the largest weight that stays in e4m3: such a one may be widened for a call.
  int64_t largest_e4m3() const;

 private:
  struct Asked;  // what was asked for so far, shared by all views
  std::string full(std::string_view name) const;
  void ask(const std::string& key, at::IntArrayRef shape) const;
  Placement::Place allocate(const std::string& key, at::IntArrayRef shape,
                            std::optional<at::ScalarType> dtype) const;
  void fill(const std::string& key, const at::Tensor& values) const;        // undefined: nothing is filled
  void fill_scale(const std::string& key, const at::Tensor& values) const;  // of e4m3 rows

  std::shared_ptr<WeightSource> source_;
  std::shared_ptr<Asked> asked_;
  std::shared_ptr<Placement> placement_;  // null: on the target
  Target target_;
  std::string prefix_;
};

// progress: bytes done, bytes in all; called from any thread, one at a time, while require_all_read waits.
// What it throws stops the loading and leaves require_all_read: that is how to cancel.
using LoadProgress = std::function<void(int64_t done, int64_t total)>;

// A diffusers or transformers component folder: single file, shards by index, variants. stem is
// "diffusion_pytorch_model" or "model". A component without files of the variant is read from its plain
// files, as diffusers does: list_folder tells. Throws sagelab::Error for anything missing, truncated or
// malformed.
std::shared_ptr<WeightSource> open_folder(const std::filesystem::path& folder, std::string_view stem,
                                          std::string_view variant = {}, LoadProgress progress = {});
// One .safetensors file in place of a component's folder: under diffusers' names or, by the rules, its
// authors'; alone or, by the prefixes, among other components.
std::shared_ptr<WeightSource> open_file(const std::filesystem::path& path, const OriginalNames& names,
                                        LoadProgress progress = {});
// N(0, 1/fan_in) for matrices, 1 +- 0.1 for norm weights, own storage per tensor, drawn on the target device.
std::shared_ptr<WeightSource> random_source(uint64_t seed);
// Names alone, for the meta target: every key for which `has` says yes (empty: all) is there, in the shape
// asked for.
std::shared_ptr<WeightSource> shape_source(std::function<bool(std::string_view key)> has = {});
// Headers alone: (key, shape, dtype name, bytes) of every tensor of a component folder, sorted by key.
struct TensorInfo {
  std::string key;
  std::vector<int64_t> shape;
  std::string dtype;  // the format's: "BF16"
  int64_t bytes = 0;
  std::string file;  // in the folder: tells which variant was found
};
std::vector<TensorInfo> list_folder(const std::filesystem::path& folder, std::string_view stem,
                                    std::string_view variant = {});
std::vector<TensorInfo> list_file(const std::filesystem::path& path, const OriginalNames& names);
// The same for looking at a folder that may be broken: what could be read, and every reason why open_folder
// would refuse the rest.
struct FolderContents {
  std::vector<TensorInfo> tensors;
  std::vector<std::string> problems;
};
FolderContents inspect_folder(const std::filesystem::path& folder, std::string_view stem,
                              std::string_view variant = {});
bool has_variant(const std::filesystem::path& folder, std::string_view stem, std::string_view variant);

}  // namespace sagelab
