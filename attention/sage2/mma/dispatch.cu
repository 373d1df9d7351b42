// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <climits>
#include <cmath>

#include "attention/sage2/mma/launch.h"

namespace sagelab::attention::sage2 {

namespace {

bool has_kernel(const AttentionParams& p) {
  const Settings& s = p.settings;
  const bool smooth_q = s.smooth_q || p.x.delta;
  return s.arch != Arch::Sm90 && p.head_dim >= 1 && p.head_dim <= 128 &&
         p.scalar != sagelab::kernel::Scalar::Float && !(s.v == VScale::Tile && s.pv == Pv::Fp16) &&
         !(smooth_q && s.qk != Qk::Int4);
}

// Lengths and indices of tiles are 32-bit in the kernel, offsets within tensors 64-bit. A negative scale
// would turn the maximum of the integer scores into the minimum.
bool is_valid(const AttentionParams& p) {
  const bool counts = p.batch >= 0 && p.heads >= 0 && p.kv_heads >= 1 && p.heads % p.kv_heads == 0 &&
                      p.segments >= 0 && p.segments <= kMaxSegments;
  const bool lengths =
      p.q_len >= 0 && p.q_len <= INT_MAX - kQRows && p.kv_len >= 0 && p.kv_len <= INT_MAX - kQRows;
  if (!counts || !lengths || !(p.scale >= 0) || !std::isfinite(p.scale)) return false;
  if (p.settings.smooth_q && !p.x.delta && p.kv_len > 0) return false;
  const double blocks = static_cast<double>(p.batch) * p.heads * tiles(p.q_len, kQRows);
  return blocks * std::max<int64_t>(tiles(p.kv_len, kv_rows(p.settings.arch)), 1) <= UINT_MAX &&
         blocks <= INT_MAX;
}

template <Qk kQk, Pv kPv>
cudaError_t launch_dim(const AttentionParams& p, cudaStream_t stream) {
  return padded_head_dim(p.head_dim) == 64 ? mma::launch<kQk, kPv, 64>(p, stream)
                                           : mma::launch<kQk, kPv, 128>(p, stream);
}

template <Qk kQk>
cudaError_t launch_qk(const AttentionParams& p, cudaStream_t stream) {
  switch (p.settings.pv) {
    case Pv::Fp16:
      return launch_dim<kQk, Pv::Fp16>(p, stream);
    case Pv::Fp8:
      return launch_dim<kQk, Pv::Fp8>(p, stream);
    case Pv::Fp8Half:
      return launch_dim<kQk, Pv::Fp8Half>(p, stream);
  }
  return cudaErrorNotSupported;
}

}  // namespace

cudaError_t launch_mma(const AttentionParams& params, cudaStream_t stream) {
  if (!has_kernel(params)) return cudaErrorNotSupported;
  if (!is_valid(params)) return cudaErrorInvalidValue;
  if (params.batch == 0 || params.heads == 0 || params.q_len == 0) return cudaSuccess;
  return params.settings.qk == Qk::Int8 ? launch_qk<Qk::Int8>(params, stream)
                                        : launch_qk<Qk::Int4>(params, stream);
}

}  // namespace sagelab::attention::sage2
