// SPDX-License-Identifier: Apache-2.0
// One pass from bf16 or fp16 rows to the tiles of layout.h: norm, RoPE, smoothing, scales, rounding,
// transposition of V.
//
// Note [Pieces]. A block holds groups of kThreads threads, several where there is room, since while one waits
// for memory another can compute. Each group takes one piece of work after the other from a queue: a tile of
// K and V, a tile of Q, or the end of a head, which waits for the pieces of the head. Heads come in the order
// in which attention wants them. So few blocks, on processors of their own, stay ahead of attention that runs
// beside.
#pragma once

#include <algorithm>

#include "attention/device/flags.cuh"
#include "attention/device/launch.cuh"
#include "attention/sage2/prologue/dispatch.cuh"
#include "attention/sage2/prologue/finished.cuh"
#include "attention/sage2/prologue/held.cuh"
#include "attention/sage2/prologue/pieces.h"
#include "attention/sage2/prologue/stages.h"

namespace sagelab::attention::sage2 {

// All threads of a group of this block.
__device__ inline void group_sync() {
  asm volatile("bar.sync %0, %1;" ::"r"(threadIdx.y + 1), "n"(kThreads) : "memory");
}

constexpr int kWarps = kThreads / 32;  // of a group

struct Nothing {};

// What a group has in shared memory; the parts of a union are used one after the other.
template <int kDim, bool kPlain>
struct alignas(16) Shared {
  static constexpr int kAtOnce = kThreads * kVector / kDim;
  // Words of V: a channel's row has 32 and one more, so that threads that read neighbouring rows meet no bank
  // twice; every eighth row is moved further, for threads that write rows eight apart.
  static constexpr int kSkew = (32 * kVector / kDim + 24) % 32;
  static __device__ int row_of(int channel) { return channel * 33 + channel / 8 * kSkew; }
  struct QueriesOrKeys {
    std::conditional_t<kPlain, Nothing, Shelf<kQRows / kAtOnce>> kept;
    float sums[kAtOnce][kDim];
  };
  union {
    unsigned v[kDim * 33 + kDim / 8 * kSkew];
    QueriesOrKeys rows;
  };
  float channel[kWarps][kDim];
  float warp_amax[kWarps];
  float inverse[kDim];
  int odd;
  unsigned piece;
};

// The largest magnitude of neighbouring lanes; what is not finite stays, since its bits are above all others.
template <int kLanes>
__device__ float most_of(float x) {
  if constexpr (kLanes == 32) {
    return __uint_as_float(__reduce_max_sync(0xffffffffu, __float_as_uint(x)));
  } else {
#pragma unroll
    for (int offset = kLanes / 2; offset > 0; offset /= 2)
      x = larger_or_nan(x, __shfl_xor_sync(0xffffffffu, x, offset));
    return x;
  }
}

// Eight numbers as integers, in the low bits: of what is added the unit of the last place is 1.
__device__ inline void to_integers(unsigned (&n)[kVector], const float (&x)[kVector], float inverse) {
  constexpr float kMagic = 12582912;  // 1.5 * 2^23
#pragma unroll
  for (int i = 0; i < kVector; ++i) n[i] = __float_as_uint(__fmaf_rn(x[i], inverse, kMagic));
}
__device__ inline uint2 low_bytes(const unsigned (&n)[kVector]) {
  const auto four = [&](int i) {
    return __byte_perm(__byte_perm(n[i], n[i + 1], 0x0040), __byte_perm(n[i + 2], n[i + 3], 0x0040), 0x5410);
  };
  return {four(0), four(4)};
}
__device__ inline unsigned low_nibbles(const unsigned (&n)[kVector]) {
  unsigned packed = 0;
#pragma unroll
  for (int i = 0; i < kVector; ++i) packed |= (n[i] & 15) << 4 * i;
  return packed;
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
  static_assert(kKeys <= kQRows);                    // what keeps queries keeps keys
  static constexpr bool kMma = kArch != Arch::Sm90;  // INT4, smoothed Q and FP16 are for mma.sync
  using Staging = Shared<kDim, kPlain>;
  template <Stream kStream, int kRows, bool kShifted = true>
  using Tile =
      std::conditional_t<kPlain, Held<From, kStream, kRows / kAtOnce, kShifted>,
                         Finished<From, kStream, kRows / kAtOnce, decltype(Staging::QueriesOrKeys::kept)>>;

  const PrologueParams& p;
  const Scratch& scratch;
  Staging& s;
  int batch, head;
  int64_t tile;

  __device__ const Settings& settings() const { return p.shape.settings; }
  // The tile holds something that is not finite.
  __device__ void note() const { s.odd = 1; }  // all that write here write the same

  // Of a step's rows this thread's: those of a warp are eight apart, so they share a scale as far as a scale
  // reaches.
  static __device__ int row() { return warp() + lane() / kLanes * kWarps; }
  static __device__ int warp() { return threadIdx.x / 32; }
  static __device__ int lane() { return threadIdx.x % 32; }
  // taken: a vector of kDim that is taken from them, or null.
  template <class Of>
  __device__ Of rows_of_tile(int count, const float* taken) const {
    const Rows rows{tile * count, (tile + 1) * count, tile * count + row(), [](int n) { return n * kAtOnce; },
                    taken ? taken + From::column() : nullptr};
    if constexpr (kPlain) {
      return Of(p, batch, head, rows);
    } else {
      return Of(p, batch, head, rows, s.rows.kept);
    }
  }

  // The tile's rows of Q or K as integers.
  template <class Rows, class Inverse>
  __device__ void store_tile(const Rows& held, void* to, int64_t bytes, Inverse inverse) const {
    char* out = static_cast<char*>(to) + bytes;
#pragma unroll
    for (int step = 0; step < Rows::kCount; ++step) {
      float x[kVector];
      unsigned n[kVector];
      held.get(x, step);
      to_integers(n, x, inverse(step));
      const int r = step * kAtOnce + row(), column = From::column();
      if (kMma && settings().qk == Qk::Int4) {
        *reinterpret_cast<unsigned*>(out + swizzled(r, column / 2, kDim / 2)) = low_nibbles(n);
      } else {
        *reinterpret_cast<uint2*>(out + swizzled(r, column, kDim)) = low_bytes(n);
      }
    }
  }

  __device__ void keys() const {
    const int64_t bh = int64_t(batch) * p.shape.kv_heads + head,
                  at = bh * tiles(p.shape.kv_len, kKeys) + tile;
    auto held = rows_of_tile<Tile<Stream::K, kKeys>>(kKeys, p.x.k_mean ? p.x.k_mean + bh * kDim : nullptr);
    float most;
    if (!held.amax(most)) {
      note();
      held.clear();
      held.amax(most);
    }
    const float of_warp = most_of<32>(most);
    if (lane() == 0) s.warp_amax[warp()] = of_warp;
    group_sync();
    const int first = warp() / 2 * 2;  // rows of two warps share a scale
    const float amax = fmaxf(s.warp_amax[first], s.warp_amax[first + 1]), range = range_of(settings().qk);
    if (warp() == first && lane() == 0)
      p.x.k_scale[at * kKScalesPerTile + first / 2] = step_of(amax, range).scale;
    const float inverse = step_of(amax, range).inverse;
    store_tile(held, p.x.k, at * kKeys * row_bytes(settings().qk, kDim), [&](int) { return inverse; });
  }

  // The mean over the tile's queries, subtracted from them; to memory as well.
  template <class Rows>
  __device__ void subtract_mean(Rows& held, int64_t at) const {
    const int column = From::column();
    float sum[kVector] = {};
#pragma unroll
    for (int step = 0; step < Rows::kCount; ++step) {
      float x[kVector];
      held.get(x, step);
#pragma unroll
      for (int i = 0; i < kVector; ++i) sum[i] += x[i];
    }
#pragma unroll
    for (int i = 0; i < kVector; ++i) s.rows.sums[row()][column + i] = sum[i];
    group_sync();
    const int64_t left = p.shape.q_len - tile * kQRows;
    const float count = float(left < kQRows ? left : kQRows);
    if (threadIdx.x < kDim) {
      float total = 0;
      for (int r = 0; r < kAtOnce; ++r) total += s.rows.sums[r][threadIdx.x];
      s.inverse[threadIdx.x] = total / count;
      p.x.q_mean[at * kDim + threadIdx.x] = total / count;
    }
    group_sync();
    held.subtract(s.inverse + column);
  }

  using QueriesHeld = Tile<Stream::Q, kQRows, kMma>;

  // The products of queries and the mean of K, for the LSE.
  __device__ void shift(const QueriesHeld& held, int64_t bh) const {
    const int64_t kv = int64_t(batch) * p.shape.kv_heads + head / (p.shape.heads / p.shape.kv_heads);
#pragma unroll
    for (int step = 0; step < QueriesHeld::kCount; ++step) {
      float x[kVector], dot = 0;
      held.get(x, step);
#pragma unroll
      for (int i = 0; i < kVector; ++i) dot += x[i] * p.x.k_mean[kv * kDim + From::column() + i];
      dot = sagelab::kernel::row_sum<kLanes>(dot);
      const int64_t token = tile * kQRows + step * kAtOnce + row();
      if (From::column() == 0 && token < p.shape.q_len) p.x.q_shift[bh * p.shape.q_len + token] = dot;
    }
  }

  // A warp's rows of a step share a scale (kHalves: those of each half of it do), or those of several steps
  // do. One lane per scale divides.
  static constexpr bool kHalves = kGroup < kAtOnce;
  static constexpr int kSharing = kHalves ? 16 : 32;  // lanes
  static constexpr int kStepsPerScale = kHalves ? 1 : kGroup / kAtOnce;
  static __device__ int keeper(int step) {
    return kHalves ? (lane() & 16) + step : step / kStepsPerScale;
  }

  // The largest magnitudes that share a scale, in their keepers. False where one is not finite: its bits are
  // above all others.
  static __device__ bool query_amax(float& kept, const QueriesHeld& held) {
    bool odd = false;
    float most = 0;
    kept = 0;
#pragma unroll
    for (int step = 0; step < QueriesHeld::kCount; ++step) {
      const float amax = held.amax(step);
      most = step % kStepsPerScale == 0 ? amax : larger_or_nan(most, amax);
      if ((step + 1) % kStepsPerScale != 0) continue;
      const float shared = most_of<kSharing>(most);
      odd = odd || !finite(shared);
      if (lane() == keeper(step)) kept = shared;
    }
    return !__any_sync(0xffffffffu, odd);  // all of a warp stay together: next they exchange again
  }

  // What to multiply the rows of steps by, in their keepers; scales to memory.
  __device__ float query_scales(float kept, int64_t at) const {
    constexpr int kMine = QueriesHeld::kCount / kStepsPerScale;
    const Step of_kept = step_of(kept, range_of(settings().qk));
    const int mine = kHalves ? lane() % 16 : lane();
    if (mine < kMine) {
      const int scale = kHalves ? mine * 2 + lane() / 16 : mine;
      p.x.q_scale[at * q_scales_per_tile(kArch) + scale * kWarps + warp()] = of_kept.scale;
    }
    return of_kept.inverse;
  }

  __device__ void queries() const {
    const int64_t bh = int64_t(batch) * p.shape.heads + head, at = bh * tiles(p.shape.q_len, kQRows) + tile;
    auto held = rows_of_tile<QueriesHeld>(kQRows, nullptr);
    float kept;
    if (!query_amax(kept, held)) {
      note();
      held.clear();
      query_amax(kept, held);
    }
    if (p.x.q_shift) shift(held, bh);
    if constexpr (kMma) {
      if (p.x.q_mean) {
        subtract_mean(held, at);
        query_amax(kept, held);
      }
    }
    const float inverse = query_scales(kept, at);
    store_tile(held, p.x.q, at * kQRows * row_bytes(settings().qk, kDim),
               [&](int step) { return __shfl_sync(0xffffffffu, inverse, keeper(step)); });
  }

  // By one thread, after all are through.
  __device__ void done(const Piece& piece) const {
    if (piece.kind == Piece::End) return;
    const bool q = piece.kind == Piece::Queries;
    const int64_t heads = q ? p.shape.heads : p.shape.kv_heads,
                  count = q ? tiles(p.shape.q_len, kQRows) : tiles(p.shape.kv_len, kKeys);
    (q ? p.x.q_odd : p.x.kv_odd)[(batch * heads + head) * count + tile] = uint8_t(s.odd);
    sagelab::kernel::add_release(p.shape.counters.done(piece.kv), 1);
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
  __device__ void stage(const Rows& held, const float (&inverse)[kVector]) const {
    const int column = From::column();
#pragma unroll
    for (int step = 0; step < kVSteps; ++step) {
      const int group = step * kGroupsAtOnce + From::row() / 4;
      if (group >= kKeys / 16) continue;
      float real[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) real[e] = held.real(step * 4 + e);
#pragma unroll
      for (int i = 0; i < kVector / 2; ++i) {
        float even[4], odd[4];
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const float2 x = held.pair(step * 4 + e, i, real[e]);
          even[e] = __fmul_rn(x.x, inverse[2 * i]), odd[e] = __fmul_rn(x.y, inverse[2 * i + 1]);
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

  using Values = Held<From, Stream::V, kVSteps * 4>;

  // Scales of the channels from what the block's threads have, and what to multiply by into shared memory.
  __device__ void set_v_scales(float (&amax)[kVector], int64_t at) const {
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      for (int offset = kLanes; offset < 32; offset *= 2) {
        amax[i] = fmaxf(amax[i], __shfl_xor_sync(0xffffffffu, amax[i], offset));
      }
      if (lane() < kLanes) s.channel[warp()][From::column() + i] = amax[i];
    }
    group_sync();
    if (threadIdx.x >= kDim) return;
    float most = 0;
    for (const auto& of_warp : s.channel) most = fmaxf(most, of_warp[threadIdx.x]);
    const Step step = v_step_of(most, settings().pv);
    s.inverse[threadIdx.x] = step.inverse;
    p.x.v_scale[at * kDim + threadIdx.x] = step.scale;
  }

  // Whether a value may lie beyond the range that the head's scales leave.
  static __device__ bool exceeds(const Values& held, const float (&lying)[kVector],
                                 const float (&inverse)[kVector]) {
    bool over = false;
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      const float reach = lying[i] + fabsf(held.subtracted(i));
      over = over || (inverse[i] == 0 ? reach >= 1e-35f : __fmul_rn(reach, inverse[i]) > 448.f);
    }
    return over;
  }

  // The key that is the e-th of this thread's four of a step.
  __device__ auto keys_of_tile(const float* taken) const {
    // Threads that no key is left for do as others do, up to stage().
    const int64_t first = tile * kKeys + From::row() / 4 % (kKeys / 16) * 16 + From::row() % 4 * 2;
    return Rows{tile * kKeys, (tile + 1) * kKeys, first,
                [](int n) { return n / 4 * kGroupsAtOnce * 16 + n % 4 / 2 * 8 + n % 2; }, taken};
  }

  __device__ Values smoothed_values(float (&lying)[kVector], float (&left)[kVector]) const {
    const int64_t bh = int64_t(batch) * p.shape.kv_heads + head;
    Values held(p, batch, head, keys_of_tile(p.x.v_mean ? p.x.v_mean + bh * kDim + From::column() : nullptr));
    if (!held.column_amax(lying, left)) {
      note();
      held.clear();
      held.column_amax(lying, left);
    }
    return held;
  }

  __device__ void values() const {
    const int64_t bh = int64_t(batch) * p.shape.kv_heads + head,
                  at = bh * tiles(p.shape.kv_len, kKeys) + tile;
    float lying[kVector], left[kVector], inverse[kVector];
    const Values held = smoothed_values(lying, left);
    const float* from = scratch.v_inverse + bh * kDim;
    if (settings().v == VScale::Tile) {
      set_v_scales(left, at);
      group_sync();
      from = s.inverse;
    }
#pragma unroll
    for (int i = 0; i < kVector; ++i) inverse[i] = from[From::column() + i];
    if (settings().v == VScale::Sampled && exceeds(held, lying, inverse))
      *p.shape.counters.exceeds(bh) = 1;  // all write the same
    stage(held, inverse);
    group_sync();
    if (kMma && settings().pv != Pv::Fp16) {
      store_values<kKeys>(at);
    } else {
      store_values<128>(at);
    }
  }

  // From shared memory. kBytes: of a channel's row.
  template <int kBytes>
  __device__ void store_values(int64_t at) const {
    constexpr int kChunks = kBytes / 16;
    char* out = static_cast<char*>(p.x.v) + at * kDim * kBytes;
#pragma unroll
    for (int i = 0; i < kDim * kChunks; i += kThreads) {
      const int channel = (i + int(threadIdx.x)) / kChunks, chunk = (i + int(threadIdx.x)) % kChunks;
      const unsigned* words = s.v + Staging::row_of(channel) + chunk * 4;
      *reinterpret_cast<uint4*>(out + swizzled(channel, chunk * 16, kBytes)) = {words[0], words[1], words[2],
                                                                                words[3]};
    }
  }
};

// Where V of a head goes beyond what sampled scales leave room for: quantized anew with scales from all
// tokens. Rare and slow.
template <class Work>
__device__ __noinline__ void refit(const PrologueParams& p, const Scratch& scratch,
                                   typename Work::Staging& shared, int batch, int head) {
  const int64_t bh = int64_t(batch) * p.shape.kv_heads + head, count = tiles(p.shape.kv_len, Work::kKeys);
  const auto work = [&](int64_t tile) { return Work{p, scratch, shared, batch, head, tile}; };
  float amax[kVector] = {}, lying[kVector], left[kVector];
  for (int64_t tile = 0; tile < count; ++tile) {
    work(tile).smoothed_values(lying, left);
#pragma unroll
    for (int i = 0; i < kVector; ++i) amax[i] = fmaxf(amax[i], left[i]);
  }
  work(0).set_v_scales(amax, bh);
  if (threadIdx.x < Work::kDim)
    scratch.v_inverse[bh * Work::kDim + threadIdx.x] = shared.inverse[threadIdx.x];
  for (int64_t tile = 0; tile < count; ++tile) {
    group_sync();
    work(tile).values();
  }
}

// Once all pieces of a head of K and V, and of its queries, are done: whether it has to be fitted anew.
__device__ inline bool await_head(const PrologueParams& p, int64_t kv, unsigned pieces) {
  const Counters& counters = p.shape.counters;
  if (threadIdx.x == 0) sagelab::kernel::await_at_least(counters.done(kv), pieces);
  group_sync();
  return p.shape.settings.v == VScale::Sampled && *counters.exceeds(kv);
}

// Groups of a block at most. Rows that stay packed leave registers for more; of head dimension 128, normed,
// an sm_86 has shared memory for one.
constexpr int groups_of(bool plain) {
  return plain ? 3 : 2;
}

template <class T, int kLanes, Arch kArch, bool kPlain>
__global__ __launch_bounds__(kThreads* groups_of(kPlain),
                             1) void quantize_kernel(const __grid_constant__ PrologueParams p,
                                                     const __grid_constant__ Scratch scratch,
                                                     const __grid_constant__ Pieces pieces) {
#if __CUDA_ARCH__ < 900
  if constexpr (kArch == Arch::Sm90) return;  // tiles that only Hopper's kernel reads
#endif
  using Work = Quantizer<T, kLanes, kArch, kPlain>;
  extern __shared__ char raw[];
  typename Work::Staging& shared = reinterpret_cast<typename Work::Staging*>(raw)[threadIdx.y];
  sagelab::kernel::let_dependents_begin();
  const Counters& counters = p.shape.counters;
  const auto ready = [&](int64_t kv) {
    if (threadIdx.x == 0) sagelab::kernel::add_release(counters.ready(kv), 1);
  };
  unsigned next = threadIdx.x == 0 ? atomicAdd(counters.queue(), 1) : 0;
  for (;;) {
    if (threadIdx.x == 0) shared.piece = next, shared.odd = 0;
    group_sync();
    // Of a reduction ptxas knows that all lanes have it: shuffles in branches on it need no slow way.
    const Piece piece = pieces.at(__reduce_max_sync(0xffffffffu, shared.piece));
    if (piece.kind == Piece::None) break;
    if (threadIdx.x == 0) next = atomicAdd(counters.queue(), 1);  // on its way meanwhile
    const Work work{p, scratch, shared, piece.batch, piece.head, piece.tile};
    if (piece.kind == Piece::KeysAndValues) {
      work.keys();
      group_sync();
      work.values();
    } else if (piece.kind == Piece::Queries) {
      work.queries();
    } else if (!await_head(p, piece.kv, pieces.of_head())) {
      ready(piece.kv);
    }
    group_sync();
    if (threadIdx.x == 0) work.done(piece);
  }
  // After the loop, for the registers' sake.
  for (int64_t kv = blockIdx.x * blockDim.y + threadIdx.y; kv < counters.heads;
       kv += gridDim.x * blockDim.y) {
    if (!await_head(p, kv, pieces.of_head())) continue;
    refit<Work>(p, scratch, shared, int(kv / p.shape.kv_heads), int(kv % p.shape.kv_heads));
    group_sync();
    ready(kv);
  }
}

template <bool kPlain>
cudaError_t launch_quantize_as(const PrologueParams& params, cudaStream_t stream) {
  const AttentionParams& shape = params.shape;
  const Scratch scratch = scratch_of(params);
  return dispatch_tiles(shape, [&]<class T, int kLanes, Arch kArch>() {
    using Work = Quantizer<T, kLanes, kArch, kPlain>;
    constexpr int kBytes = int(sizeof(typename Work::Staging));
    const int groups = std::clamp(sagelab::kernel::most_shared() / kBytes, 1, groups_of(kPlain));
    const Pieces pieces(shape, Work::kKeys);
    const unsigned wanted = unsigned(tiles(pieces.count(), groups));
    const unsigned blocks = std::min(wanted, unsigned(processors_for(shape, kPlain)));
    return sagelab::kernel::launch(quantize_kernel<T, kLanes, kArch, kPlain>,
                                   {blocks, dim3(kThreads, unsigned(groups)), groups * kBytes}, stream,
                                   params, scratch, pieces);
  });
}

}  // namespace sagelab::attention::sage2
