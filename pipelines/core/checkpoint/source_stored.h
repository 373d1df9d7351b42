// SPDX-License-Identifier: Apache-2.0
// Tensors of safetensors files, one file or many, under their own names or a component's original ones.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "pipelines/core/checkpoint/loader.h"
#include "pipelines/core/checkpoint/original.h"
#include "pipelines/core/checkpoint/source.h"
#include "pipelines/core/safetensors.h"

namespace sagelab {

struct Located {
  std::shared_ptr<const SafetensorsFile> file;
  StoredTensor stored;
};
using LocatedMap = std::map<std::string, Located>;

class StoredSource final : public WeightSource {
 public:
  // place: for messages about what is missing. names: rules, where the keys are not ours.
  StoredSource(std::filesystem::path place, LocatedMap tensors, std::span<const OriginalName> names,
               std::function<void(int64_t, int64_t)> progress);

  std::string where(const std::string& key) const override;
  bool has(const std::string& key) const override;
  std::optional<std::vector<int64_t>> shape(const std::string& key) const override;
  bool is_e4m3(const std::string& key) const override;
  at::Tensor scale(const std::string& key) const override;
  void fill(const std::string& key, const at::Tensor& out) override;
  void wait() override;
  std::vector<std::string> keys() const override;

 private:
  // Whole rows of a stored tensor, or all of it.
  struct Piece {
    const Located* from = nullptr;
    std::string key;              // as stored
    int64_t begin = 0, rows = 0;  // rows of [rows, ...]; 0 rows: of no dimension
    std::vector<int64_t> shape;   // of the piece
  };
  std::vector<Piece> pieces(const std::string& key) const;  // one after the other; empty: it is not there
  const OriginalName* rule_for(const std::string& key, std::string& theirs) const;
  at::Tensor stored_scale(const std::string& key) const;  // fp32 [] or [rows]; undefined where there is none

  const std::filesystem::path place_;
  const LocatedMap tensors_;
  const std::span<const OriginalName> names_;
  Loader loader_;
  std::vector<std::pair<at::Tensor, at::Tensor>> unscaled_;  // loaded, and what to multiply it by
};

// Whether a key is a scale beside an 8-bit weight or a mark of such files, which no model asks for by name.
bool is_scale_key(const std::string& key);

}  // namespace sagelab
