// SPDX-License-Identifier: Apache-2.0
// LibTorch's own kernels, each through its own ATen operation: the global switches of
// scaled_dot_product_attention are neither read nor set, and a kernel that is named is the kernel that runs.
#pragma once

#include "attention/attention.h"

namespace sagelab::attention {

class Arguments;

class Sdpa final : public Backend {
 public:
  enum class Kernel { Auto, Flash, Cudnn, Efficient, Math };
  explicit Sdpa(Kernel kernel) : kernel_(kernel) {}
  std::string name() const override;
  std::string unsupported(const Problem& problem) const override;
  // Records the kernel that ran, "sdpa(cudnn)", also where Auto chose it; with a single key or none, where
  // nothing is left to run, the one that was chosen.
  Output run(const Call& call, Recorder& recorder) const override;
  int64_t run_bytes(const Problem& problem) const override;

 private:
  Kernel kernel_;
};

// What LibTorch's flash kernel takes on the CPU: for each thread a tile of scores, and its probabilities in
// half precision.
int64_t flash_tile_bytes(const Problem& problem);

// The first kernel that can, in LibTorch's order: on CUDA cudnn (compute capability 9.0, 10.0 and 10.3 with
// cuDNN above 9.15 only), flash, efficient, math; elsewhere flash, math. Auto where none can.
Sdpa::Kernel choose_sdpa(const Problem& problem);

BackendPtr make_sdpa(Arguments& arguments);

}  // namespace sagelab::attention
