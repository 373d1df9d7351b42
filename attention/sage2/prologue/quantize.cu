// SPDX-License-Identifier: Apache-2.0
#include "attention/sage2/prologue/quantize.cuh"

namespace sagelab::attention::sage2 {
namespace {

bool plain(const Run* runs, int count) {
  for (const Run* run = runs; run < runs + count; ++run) {
    if (run->rows.norm != sagelab::kernel::NormKind::None || run->rows.rotate) return false;
  }
  return true;
}

}  // namespace

cudaError_t launch_quantize(const PrologueParams& params, cudaStream_t stream) {
  if (plain(params.q, params.q_runs) && plain(params.k, params.kv_runs))
    return launch_quantize_plain(params, stream);
  return launch_quantize_as<false>(params, stream);
}

}  // namespace sagelab::attention::sage2
