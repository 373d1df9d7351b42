// SPDX-License-Identifier: Apache-2.0
// One pass from bf16 or fp16 rows to the tiles of layout.h: norm, RoPE, smoothing, scales, rounding,
// transposition of V.
#pragma once

#include "attention/sage2/prologue/dispatch.cuh"
#include "attention/sage2/prologue/held.cuh"
#include "attention/sage2/prologue/stages.h"

namespace sagelab::attention::sage2 {

// What a thread block stages in shared memory; its parts are used one after the other.
template <int kDim>
struct alignas(16) Shared {
  // Words of V: a channel's row has 32 and one more, so that threads that read neighbouring rows meet no bank
  // twice; every eighth row is moved further, for threads that write rows eight apart.
  static constexpr int kSkew = (32 * kVector / kDim + 24) % 32;
  static __device__ int row_of(int channel) { return channel * 33 + channel / 8 * kSkew; }
  union {
    unsigned v[kDim * 33 + kDim / 8 * kSkew];
    float sums[kThreads / (kDim / kVector)][kDim];
  };
  float channel[kThreads / 32][kDim];
  float row_amax[kQRows];
  float inverse[kDim];
  int odd;
};

template <int kLanes>
__device__ float most_of(float x) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2)
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
  return x;
}

// Eight values of a row of Q or K at `column`, as int8 or int4.
__device__ inline void store_integers(char* tile, int row, int column, const float (&x)[kVector],
                                      float inverse, int dim, Qk qk) {
  constexpr float kMagic = 12582912;  // 1.5 * 2^23: the sum's low bits are the integer, rounded half to even
  unsigned n[kVector];
#pragma unroll
  for (int i = 0; i < kVector; ++i) n[i] = __float_as_uint(__fadd_rn(__fmul_rn(x[i], inverse), kMagic));
  if (qk == Qk::Int8) {
    const auto low_bytes = [&](int i) {
      return __byte_perm(__byte_perm(n[i], n[i + 1], 0x0040), __byte_perm(n[i + 2], n[i + 3], 0x0040),
                         0x5410);
    };
    *reinterpret_cast<uint2*>(tile + swizzled(row, column, dim)) = {low_bytes(0), low_bytes(4)};
    return;
  }
  unsigned packed = 0;
#pragma unroll
  for (int i = 0; i < kVector; ++i) packed |= (n[i] & 15) << 4 * i;
  *reinterpret_cast<unsigned*>(tile + swizzled(row, column / 2, dim / 2)) = packed;
}

constexpr float range_of(Qk qk) {
  return qk == Qk::Int8 ? 127.f : 7.f;
}
constexpr int row_bytes(Qk qk, int dim) {
  return qk == Qk::Int8 ? dim : dim / 2;
}

// kPlain: no run has a norm or a rotation, which are most of the code.
template <class T, int kLanes, Arch kArch, bool kPlain>
struct Quantizer {
  using From = Source<T, kLanes>;
  static constexpr int kDim = From::kDim, kKeys = kv_rows(kArch), kGroup = q_group(kArch);
  static constexpr int kAtOnce = From::kRowsAtOnce;
  using Staging = Shared<kDim>;

  const PrologueParams& p;
  const Scratch& scratch;
  Staging& s;
  int batch, head;
  int64_t tile;

  __device__ const Settings& settings() const { return p.shape.settings; }
  __device__ void note(bool odd) const {
    if (odd) s.odd = 1;  // all that write here write the same
  }

  // Row after row to neighbouring groups of threads.
  __device__ auto rows_of_tile(int count) const {
    return Rows{tile * count, (tile + 1) * count, tile * count + From::row(),
                [](int n) { return n * kAtOnce; }};
  }

  __device__ void keys() const {
    constexpr int kSteps = kKeys / kAtOnce;
    const int64_t bh = int64_t(batch) * p.shape.kv_heads + head,
                  at = bh * tiles(p.shape.kv_len, kKeys) + tile;
    const int row = From::row(), column = From::column();
    Held<From, Stream::K, kSteps, kPlain> held(p, batch, head, rows_of_tile(kKeys));
    if (p.x.k_mean) held.subtract(p.x.k_mean + bh * kDim + column);
    note(held.clear());
    float amax = 0;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) amax = fmaxf(amax, held.amax(step));
    // A thread's rows are equal modulo 8, so they share a scale with those of the other row of its pair.
    amax = most_of<2 * kLanes>(amax);
    if (threadIdx.x % (2 * kLanes) == 0) s.row_amax[row / 2] = amax;
    __syncthreads();
    const int group = k_scale_index(row);
#pragma unroll
    for (int pair = 0; pair < kAtOnce / 2; pair += kKScalesPerTile)
      amax = fmaxf(amax, s.row_amax[pair + group]);
    const Step step_ = step_of(amax, range_of(settings().qk));
    if (row < 8 && row % 2 == 0 && column == 0) p.x.k_scale[at * kKScalesPerTile + group] = step_.scale;
    char* out = static_cast<char*>(p.x.k) + at * kKeys * row_bytes(settings().qk, kDim);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      float x[kVector];
      held.get(x, step);
      store_integers(out, step * kAtOnce + row, column, x, step_.inverse, kDim, settings().qk);
    }
  }

  // The mean over the tile's queries, subtracted from them; to memory as well.
  template <class Rows>
  __device__ void subtract_mean(Rows& held, int64_t at) const {
    const int row = From::row(), column = From::column();
    float sum[kVector] = {};
#pragma unroll
    for (int step = 0; step < Rows::kCount; ++step) {
      float x[kVector];
      held.get(x, step);
#pragma unroll
      for (int i = 0; i < kVector; ++i) sum[i] += x[i];
    }
#pragma unroll
    for (int i = 0; i < kVector; ++i) s.sums[row][column + i] = sum[i];
    __syncthreads();
    const int64_t left = p.shape.q_len - tile * kQRows;
    const float count = float(left < kQRows ? left : kQRows);
    if (threadIdx.x < kDim) {
      float total = 0;
      for (int r = 0; r < kAtOnce; ++r) total += s.sums[r][threadIdx.x];
      s.inverse[threadIdx.x] = total / count;
      p.x.q_mean[at * kDim + threadIdx.x] = total / count;
    }
    __syncthreads();
    held.subtract(s.inverse + column);
  }

  __device__ void queries() const {
    constexpr int kSteps = kQRows / kAtOnce, kScales = q_scales_per_tile(kArch);
    const int64_t bh = int64_t(batch) * p.shape.heads + head, at = bh * tiles(p.shape.q_len, kQRows) + tile;
    const int64_t kv = int64_t(batch) * p.shape.kv_heads + head / (p.shape.heads / p.shape.kv_heads);
    const int row = From::row(), column = From::column();
    Held<From, Stream::Q, kSteps, kPlain> held(p, batch, head, rows_of_tile(kQRows));
    note(held.clear());
    if (p.x.q_shift) {
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        float x[kVector], dot = 0;
        held.get(x, step);
#pragma unroll
        for (int i = 0; i < kVector; ++i) dot += x[i] * p.x.k_mean[kv * kDim + column + i];
        dot = sagelab::kernel::row_sum<kLanes>(dot);
        const int64_t token = tile * kQRows + step * kAtOnce + row;
        if (column == 0 && token < p.shape.q_len) p.x.q_shift[bh * p.shape.q_len + token] = dot;
      }
    }
    if (p.x.q_mean) subtract_mean(held, at);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const float amax = most_of<kLanes>(held.amax(step));
      if (column == 0) s.row_amax[step * kAtOnce + row] = amax;
    }
    __syncthreads();
    char* out = static_cast<char*>(p.x.q) + at * kQRows * row_bytes(settings().qk, kDim);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const int r = step * kAtOnce + row, first = r / kGroup * kGroup + r % 8;
      float amax = 0;
#pragma unroll
      for (int i = 0; i < kGroup; i += 8) amax = fmaxf(amax, s.row_amax[first + i]);
      const Step scale = step_of(amax, range_of(settings().qk));
      if (r == first && column == 0) p.x.q_scale[at * kScales + q_scale_index(r, kGroup)] = scale.scale;
      float x[kVector];
      held.get(x, step);
      store_integers(out, r, column, x, scale.inverse, kDim, settings().qk);
    }
    if (threadIdx.x == 0) p.x.q_odd[at] = uint8_t(s.odd);
  }

  // Four neighbouring positions of a row of fp8 V: the keys that one thread of the warp has in its
  // accumulators.
  __device__ static unsigned e4m3x4(const float (&x)[4]) {
#if __CUDA_ARCH__ >= 890
    unsigned short low, high;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(low) : "f"(x[1]), "f"(x[0]));
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(high) : "f"(x[3]), "f"(x[2]));
    return unsigned(low) | unsigned(high) << 16;
#else
    __trap();  // settings with fp8 are refused there
#endif
  }
  __device__ static unsigned halfx2(float a, float b) {
    const __half2 both = __floats2half2_rn(a, b);
    return *reinterpret_cast<const unsigned*>(&both);
  }

  // Groups of 16 keys: a thread has keys {2c, 2c+1, 8+2c, 9+2c} of one.
  static constexpr int kGroupsAtOnce = kAtOnce / 4;
  static constexpr int kVSteps = (kKeys / 16 + kGroupsAtOnce - 1) / kGroupsAtOnce;

  template <class Rows>
  __device__ void stage(const Rows& held) const {
    const int column = From::column();
#pragma unroll
    for (int step = 0; step < kVSteps; ++step) {
      const int group = step * kGroupsAtOnce + From::row() / 4;
      if (group >= kKeys / 16) continue;
#pragma unroll
      for (int i = 0; i < kVector / 2; ++i) {
        const float2 inverse = *reinterpret_cast<const float2*>(s.inverse + column + 2 * i);
        float even[4], odd[4];
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const float2 x = held.pair(step * 4 + e, i);
          even[e] = __fmul_rn(x.x, inverse.x), odd[e] = __fmul_rn(x.y, inverse.y);
        }
        put(column + 2 * i, group, even);
        put(column + 2 * i + 1, group, odd);
      }
    }
  }

  // Four keys of a channel, as one or two words of its row.
  __device__ void put(int channel, int group, const float (&y)[4]) const {
    unsigned* to = s.v + Staging::row_of(channel) + From::row() % 4;
    if (settings().pv != Pv::Fp16) {
      to[group * 4] = e4m3x4(y);
    } else if constexpr (kKeys <= 64) {
      to[group * 8] = halfx2(y[0], y[1]), to[group * 8 + 4] = halfx2(y[2], y[3]);
    }
  }

  using Values = Held<From, Stream::V, kVSteps * 4, true>;

  // Largest of each of the thread's channels, smoothed.
  __device__ static void raise(float (&amax)[kVector], const Values& held) {
#pragma unroll
    for (int n = 0; n < Values::kCount; ++n) {
      float x[kVector];
      held.get(x, n);
#pragma unroll
      for (int i = 0; i < kVector; ++i) amax[i] = fmaxf(amax[i], fabsf(x[i]));
    }
  }

  // Scales of the channels from what the block's threads have, and what to multiply by into shared memory.
  __device__ void set_v_scales(float (&amax)[kVector], int64_t at) const {
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      for (int offset = kLanes; offset < 32; offset *= 2) {
        amax[i] = fmaxf(amax[i], __shfl_xor_sync(0xffffffffu, amax[i], offset));
      }
      if (threadIdx.x % 32 < kLanes) s.channel[threadIdx.x / 32][From::column() + i] = amax[i];
    }
    __syncthreads();
    if (threadIdx.x >= kDim) return;
    float most = 0;
    for (int warp = 0; warp < kThreads / 32; ++warp) most = fmaxf(most, s.channel[warp][threadIdx.x]);
    const Step step = v_step_of(most, settings().pv);
    s.inverse[threadIdx.x] = step.inverse;
    p.x.v_scale[at * kDim + threadIdx.x] = step.scale;
  }

  // Whether a value may lie beyond the range that the head's scales leave.
  __device__ bool exceeds(const Values& held) const {
    float most[kVector];
    held.column_amax(most);
    bool over = false;
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      const float reach = most[i] + fabsf(held.subtracted(i)), inverse = s.inverse[From::column() + i];
      over = over || (inverse == 0 ? reach >= 1e-35f : __fmul_rn(reach, inverse) > 448.f);
    }
    return over;
  }

  // The key that is the e-th of this thread's four of a step.
  __device__ auto keys_of_tile() const {
    // Threads that no key is left for do as others do, up to stage().
    const int64_t first = tile * kKeys + From::row() / 4 % (kKeys / 16) * 16 + From::row() % 4 * 2;
    return Rows{tile * kKeys, (tile + 1) * kKeys, first,
                [](int n) { return n / 4 * kGroupsAtOnce * 16 + n % 4 / 2 * 8 + n % 2; }};
  }

  __device__ Values smoothed_values() const {
    Values held(p, batch, head, keys_of_tile());
    note(held.clear());
    if (p.x.v_mean)
      held.subtract(p.x.v_mean + (int64_t(batch) * p.shape.kv_heads + head) * kDim + From::column());
    return held;
  }

  __device__ void values() const {
    const int64_t bh = int64_t(batch) * p.shape.kv_heads + head,
                  at = bh * tiles(p.shape.kv_len, kKeys) + tile;
    const Values held = smoothed_values();
    if (settings().v == VScale::Tile) {
      float amax[kVector] = {};
      raise(amax, held);
      set_v_scales(amax, at);
    } else if (threadIdx.x < kDim) {
      s.inverse[threadIdx.x] = scratch.v_inverse[bh * kDim + threadIdx.x];
    }
    __syncthreads();
    if (settings().v == VScale::Sampled && exceeds(held)) scratch.v_exceeds[bh] = 1;  // all write the same
    stage(held);
    __syncthreads();
    const int bytes = kKeys * (settings().pv == Pv::Fp16 ? 2 : 1), chunks = bytes / 16;
    char* out = static_cast<char*>(p.x.v) + at * kDim * bytes;
    for (int i = threadIdx.x; i < kDim * chunks; i += kThreads) {
      const int channel = i / chunks, chunk = i % chunks;
      const unsigned* words = s.v + Staging::row_of(channel) + chunk * 4;
      *reinterpret_cast<uint4*>(out + swizzled(channel, chunk * 16, bytes)) = {words[0], words[1], words[2],
                                                                               words[3]};
    }
    if (threadIdx.x == 0) p.x.kv_odd[at] = uint8_t(s.odd);
  }
};

// A block is a tile of keys and values, or, after all of those, of queries.
// Rows that stay packed leave room for more blocks at once.
template <class T, int kLanes, Arch kArch, bool kPlain>
__global__ __launch_bounds__(kThreads,
                             kPlain ? 3 : 2) void quantize_kernel(const __grid_constant__ PrologueParams p,
                                                                  Scratch scratch) {
#if __CUDA_ARCH__ < 900
  if constexpr (kArch == Arch::Sm90) return;  // tiles that only Hopper's kernel reads
#endif
  using Work = Quantizer<T, kLanes, kArch, kPlain>;
  __shared__ typename Work::Staging shared;
  const int64_t kv_tiles = tiles(p.shape.kv_len, Work::kKeys), q_tiles = tiles(p.shape.q_len, kQRows);
  const int64_t kv_blocks = kv_tiles * p.shape.kv_heads * p.shape.batch;
  const bool kv = blockIdx.x < kv_blocks;
  // Heads first: what lies side by side in memory is read at the same time.
  const int64_t block = kv ? blockIdx.x : blockIdx.x - kv_blocks, per_head = kv ? kv_tiles : q_tiles;
  const int heads = kv ? p.shape.kv_heads : p.shape.heads;
  const int64_t tile = block / heads % per_head;
  const Work work{p, scratch, shared, int(block / heads / per_head), int(block % heads), tile};
  if (threadIdx.x == 0) shared.odd = 0;
  if (threadIdx.x == 0 && blockIdx.x == 0) *p.shape.next = 0;
  __syncthreads();
  if (kv) {
    work.keys();
    __syncthreads();
    work.values();
  } else {
    work.queries();
  }
}

template <bool kPlain>
cudaError_t launch_quantize_as(const PrologueParams& params, cudaStream_t stream) {
  const AttentionParams& shape = params.shape;
  const int64_t kv_tiles = tiles(shape.kv_len, kv_rows(shape.settings.arch)),
                q_tiles = tiles(shape.q_len, kQRows);
  const int64_t blocks = (kv_tiles * shape.kv_heads + q_tiles * shape.heads) * shape.batch;
  const Scratch scratch = scratch_of(params);
  return dispatch_tiles(shape, [&]<class T, int kLanes, Arch kArch>() {
    quantize_kernel<T, kLanes, kArch, kPlain><<<unsigned(blocks), kThreads, 0, stream>>>(params, scratch);
    return cudaGetLastError();
  });
}

}  // namespace sagelab::attention::sage2
