// SPDX-License-Identifier: Apache-2.0
// Heads where V goes beyond what sampled scales leave room for: quantized anew with scales from all tokens.
// Rare and slow; a glance at the marks where there are none.
#include "attention/sage2/prologue/quantize.cuh"

namespace sagelab::attention::sage2 {
namespace {

// blockIdx: kv head, batch.
template <class T, int kLanes, Arch kArch>
__global__ __launch_bounds__(kThreads, 2) void refit_kernel(const __grid_constant__ PrologueParams p,
                                                            Scratch scratch) {
  using Work = Quantizer<T, kLanes, kArch, true>;
  __shared__ typename Work::Staging shared;
  const int64_t bh = int64_t(blockIdx.y) * p.shape.kv_heads + blockIdx.x;
  if (!scratch.v_exceeds[bh]) return;
#if __CUDA_ARCH__ >= 900
  constexpr bool kHere = true;
#else
  constexpr bool kHere = kArch != Arch::Sm90;
#endif
  if constexpr (kHere) {
    const int64_t count = tiles(p.shape.kv_len, Work::kKeys);
    const auto work = [&](int64_t tile) {
      return Work{p, scratch, shared, int(blockIdx.y), int(blockIdx.x), tile};
    };
    float amax[kVector] = {};
    for (int64_t tile = 0; tile < count; ++tile) Work::raise(amax, work(tile).smoothed_values());
    work(0).set_v_scales(amax, bh);
    if (threadIdx.x < Work::kDim)
      scratch.v_inverse[bh * Work::kDim + threadIdx.x] = shared.inverse[threadIdx.x];
    for (int64_t tile = 0; tile < count; ++tile) {
      __syncthreads();
      if (threadIdx.x == 0) shared.odd = p.x.kv_odd[bh * count + tile];  // of its keys, too
      __syncthreads();
      work(tile).values();
    }
  }
}

}  // namespace

cudaError_t launch_refit(const PrologueParams& params, cudaStream_t stream) {
  const AttentionParams& shape = params.shape;
  if (shape.settings.v != VScale::Sampled) return cudaSuccess;
  const Scratch scratch = scratch_of(params);
  const dim3 grid(shape.kv_heads, shape.batch);
  return dispatch_tiles(shape, [&]<class T, int kLanes, Arch kArch>() {
    refit_kernel<T, kLanes, kArch><<<grid, kThreads, 0, stream>>>(params, scratch);
    return cudaGetLastError();
  });
}

}  // namespace sagelab::attention::sage2
