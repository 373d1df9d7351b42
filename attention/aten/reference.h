// SPDX-License-Identifier: Apache-2.0
// The truth: attention in fp64 by the definition, chunked over query rows so that its memory stays bounded.
#pragma once

#include "attention/attention.h"

namespace sagelab::attention {

class Arguments;

class Reference final : public Backend {
 public:
  std::string name() const override { return "reference"; }
  std::string unsupported(const Problem& problem) const override;
  Output run(const Call& call, Recorder& recorder) const override;
  int64_t run_bytes(const Problem& problem) const override;
};

// The row-wise log of the sum of exponentials of the scaled scores, fp32 [B, H, Sq], computed in fp32.
// A row that sees no key has -inf.
at::Tensor log_sum_exp(const Call& call);

BackendPtr make_reference(Arguments& arguments);

}  // namespace sagelab::attention
