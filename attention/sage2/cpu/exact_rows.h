// SPDX-License-Identifier: Apache-2.0
// Rows of attention in fp32 from the tensors as they came: for what quantization cannot represent.
#pragma once

#include <vector>

#include "attention/attention.h"

namespace sagelab::attention::sage2 {

struct RowOf {
  int64_t batch, head, query;
};
// Writes these rows of result.out [B, Sq, H, D] fp32 and, where defined, of result.lse. call: fp32 on the
// CPU.
void exact_rows(const Call& call, const std::vector<RowOf>& rows, const Output& result);

}  // namespace sagelab::attention::sage2
