// SPDX-License-Identifier: Apache-2.0
#include "attention/sage2/mma/mma.cuh"

namespace sagelab::attention::sage2::mma {

template cudaError_t launch<Qk::Int8, Pv::Fp8Half, 64>(const AttentionParams&, cudaStream_t);
template cudaError_t launch<Qk::Int8, Pv::Fp8Half, 128>(const AttentionParams&, cudaStream_t);

}  // namespace sagelab::attention::sage2::mma
