// SPDX-License-Identifier: Apache-2.0
// `bench accuracy`: the studies of attention/study over sets of layers, synthetic or in files.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "attention/study/study.h"

namespace sagelab::bench {

// Where a study's layers come from; drawn or read one at a time.
struct LayerSet {
  std::string name, help;
  int count = 0;
  std::function<attention::study::Layer(int)> layer;
};

struct StudyRow {
  attention::study::Entry entry;
  attention::Errors mean, worst;  // over layers; the worst has the lowest cosine
};
struct StudyResult {
  std::string set, table, title;
  int layers = 0;
  std::vector<StudyRow> rows;
};

// Every table over every layer of a set. tiles: of 128 queries, compared in each layer.
// progress(done, all) after each layer.
std::vector<StudyResult> study_set(const LayerSet& set,
                                   const std::vector<const attention::study::Table*>& tables, int64_t tiles,
                                   const std::function<void(int, int)>& progress);

std::string study_text(const StudyResult& result);
nlohmann::json study_json(const StudyResult& result);

// The layers of a folder: safetensors files with q, k and v [B, S, H, D].
LayerSet file_set(const std::string& folder, at::Device device);

}  // namespace sagelab::bench
