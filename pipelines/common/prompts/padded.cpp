// SPDX-License-Identifier: Apache-2.0
#include "pipelines/common/prompts/padded.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace sagelab {

Conditioning conditioning_of_padded(const std::vector<at::Tensor>& texts, const at::Device& device) {
  std::vector<int64_t> lengths;
  for (const at::Tensor& text : texts) lengths.push_back(text.size(1));
  const int64_t longest = *std::ranges::max_element(lengths);
  std::vector<at::Tensor> padded;
  for (const at::Tensor& text : texts)
    padded.push_back(at::constant_pad_nd(text, {0, 0, 0, longest - text.size(1)}));
  Conditioning conditioning;
  conditioning.guided = texts.size() > 1;
  conditioning.embeds = at::cat(padded).to(device);
  conditioning.lengths = at::tensor(lengths, at::kLong);
  return conditioning;
}

}  // namespace sagelab
