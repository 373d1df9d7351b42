// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "app/commands/bench/accuracy/accuracy.h"

namespace sagelab::bench {

using attention::Errors;
using attention::study::Entry;
using attention::study::Table;

namespace {

void include(StudyRow& row, const Errors& e, int layers) {
  if (row.mean.relative_l1 == 0 && row.mean.rmse == 0) row.mean.cosine = 0, row.worst.cosine = 2;
  row.mean.cosine += e.cosine / layers;
  row.mean.relative_l1 += e.relative_l1 / layers;
  row.mean.rmse += e.rmse / layers;
  if (e.cosine < row.worst.cosine) row.worst = e;
}

}  // namespace

std::vector<StudyResult> study_set(const LayerSet& set, const std::vector<const Table*>& tables,
                                   int64_t tiles, const std::function<void(int, int)>& progress) {
  std::vector<StudyResult> results;
  for (const Table* table : tables) {
    StudyResult result{set.name, table->name, table->title, set.count, {}};
    for (const Entry& entry : table->entries) result.rows.push_back({entry, {}, {}});
    results.push_back(std::move(result));
  }
  for (int i = 0; i < set.count; ++i) {
    const auto layer = set.layer(i);
    const auto truth = attention::study::truth_of(layer, tiles);
    for (StudyResult& result : results)
      for (StudyRow& row : result.rows)
        include(row, attention::study::errors_of(layer, row.entry.choice, truth), set.count);
    progress(i + 1, set.count);
  }
  return results;
}

std::string study_text(const StudyResult& r) {
  std::string text = fmt::format("{}, {} layers: {}\n", r.set, r.layers, r.title);
  text += fmt::format("{:10} {:>10} {:>8} {:>10} {:>12} {:>8} {:>10}   {}\n", "", "cosine", "rel. L1", "RMSE",
                      "worst cosine", "rel. L1", "RMSE", "the paper: cosine, rel. L1, RMSE; worst");
  for (const StudyRow& row : r.rows) {
    text += fmt::format("{:10} {:9.4f}% {:8.4f} {:10.3e} {:11.4f}% {:8.4f} {:10.3e}", row.entry.name,
                        100 * row.mean.cosine, row.mean.relative_l1, row.mean.rmse, 100 * row.worst.cosine,
                        row.worst.relative_l1, row.worst.rmse);
    const auto& paper = row.entry.paper_mean;
    if (paper.cosine > 0)
      text += fmt::format("   {:.2f}% {:.4f} {:.4f}; {:.2f}%", 100 * paper.cosine, paper.relative_l1,
                          paper.rmse, 100 * row.entry.paper_worst_cosine);
    text += "\n";
  }
  return text;
}

nlohmann::json study_json(const StudyResult& r) {
  const auto errors = [](const Errors& e) {
    return nlohmann::json{{"cosine", e.cosine}, {"relative_l1", e.relative_l1}, {"rmse", e.rmse}};
  };
  nlohmann::json rows = nlohmann::json::array();
  for (const StudyRow& row : r.rows)
    rows.push_back({{"choice", row.entry.name}, {"mean", errors(row.mean)}, {"worst", errors(row.worst)}});
  return {{"set", r.set}, {"table", r.table}, {"title", r.title}, {"layers", r.layers}, {"rows", rows}};
}

}  // namespace sagelab::bench
