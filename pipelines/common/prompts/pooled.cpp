// SPDX-License-Identifier: Apache-2.0
#include "pipelines/common/prompts/pooled.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

namespace sagelab {

Conditioning conditioning_of(const std::vector<const PooledRow*>& rows, const at::Device& device) {
  std::vector<at::Tensor> pooled, embeds;
  for (const PooledRow* row : rows) {
    pooled.push_back(row->pooled.to(device));
    embeds.push_back(row->embeds.to(device));
  }
  Conditioning conditioning;
  conditioning.guided = rows.size() > 1;
  conditioning.pooled = at::cat(pooled);
  conditioning.embeds = at::cat(embeds);
  return conditioning;
}

void tell_what_is_cut(const std::vector<const PooledRow*>& rows, const TextLimits& limits,
                      const RunContext& run) {
  const auto tell = [&](const char* what, const PooledRow& row) {
    if (row.t5_cut)
      run.notice(fmt::format("the {} is cut at {} tokens (max_sequence_length)", what, limits.t5));
    if (row.clip_cut) run.notice(fmt::format("CLIP reads the {} up to its {}th token", what, limits.clip));
  };
  tell("prompt", *rows.back());
  if (rows.size() > 1) tell("negative prompt", *rows.front());
}

}  // namespace sagelab
