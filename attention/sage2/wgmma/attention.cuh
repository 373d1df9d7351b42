// SPDX-License-Identifier: Apache-2.0
// Attention on Hopper: INT8 Q K^T and e4m3 P V by wgmma, with two-level accumulation (SageAttention2,
// sections 3.2, 3.3).
//
// Note [Roles]. A block of three warpgroups works on 128 queries. The first is the producer: one thread
// copies tiles of K and V into a ring. The two consumers have 64 queries each. They take turns at the tensor
// cores: while one issues its products, the other is at its softmax. Within a consumer, Q K^T of a tile runs
// beside P V of the tile before.
//
// Note [Order]. Tiles of keys go from the last to the first, since only the last can hold keys that are
// masked.
#pragma once

#include <climits>

#include "attention/device/pack.cuh"
#include "attention/sage2/kernels.h"
#include "attention/sage2/wgmma/pipe.cuh"
#include "attention/sage2/wgmma/wgmma.cuh"

namespace sagelab::attention::sage2::hopper {

constexpr int kKeys = kv_rows(Arch::Sm90), kThreads = 384;
constexpr float kLog2Of448 = 8.807354922f;  // P is scaled to the range of e4m3
constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;
constexpr float kNone = -1e30f;  // the maximum of no key
constexpr int kStages = 4;
constexpr int kConsumerWarps = 8;

template <int kDim, VScale kVScale, Sum kSum>
struct Config {
  static constexpr int kDimension = kDim;
  static constexpr bool kTileScale = kVScale == VScale::Tile, kOnes = kSum == Sum::Matrix;
  // With a row of ones under the channels, P V gives the row sum as well. Rows come by eight.
  static constexpr int kRows = kDim + (kOnes ? 8 : 0);

  struct alignas(1024) Memory {
    alignas(1024) char q[kQRows * kDim];
    alignas(1024) char k[kStages][kKeys * kDim];
    alignas(1024) char v[kStages][kRows * kKeys];
    alignas(16) float k_scale[kStages][kKScalesPerTile];
    alignas(16) float v_scale[kTileScale ? kStages : 1][kDim];
    Barrier q_full, k_full[kStages], k_empty[kStages], v_full[kStages], v_empty[kStages];
  };
};

// Where a block stands. Computed where it is needed: registers are dearer in the loop.
struct Place {
  const AttentionParams& p;

  __device__ int batch() const { return blockIdx.z; }
  __device__ int head() const { return blockIdx.y; }
  __device__ int kv_head() const { return head() / (p.heads / p.kv_heads); }
  __device__ int q_tile() const {
    return p.causal ? gridDim.x - 1 - blockIdx.x : blockIdx.x;
  }  // most work first
  // Keys that a query sees: may be none, or negative.
  __device__ int keys_seen(int query) const {
    const int end = query + 1 + int(p.kv_len - p.q_len), all = int(p.kv_len);
    return p.causal && end < all ? end : all;
  }
  // Tiles of keys that some query of the block sees.
  __device__ int count() const { return int(tiles(max(keys_seen((q_tile() + 1) * kQRows - 1), 0), kKeys)); }
  __device__ int64_t q_index() const { return (int64_t(batch()) * p.heads + head()) * gridDim.x + q_tile(); }
  __device__ int64_t kv_index() const {
    return (int64_t(batch()) * p.kv_heads + kv_head()) * tiles(p.kv_len, kKeys);
  }
};

// A place in the ring and the parity of its barriers' phase.
struct Turn {
  unsigned stage, parity;
  __device__ explicit Turn(unsigned i) : stage(i % kStages), parity(i / kStages & 1) {}
};

template <class C>
__device__ void produce(const AttentionParams& p, typename C::Memory& memory) {
  constexpr int kDim = C::kDimension;
  const Place place{p};
  const int count = place.count();
  const int64_t first = place.kv_index();
  memory.q_full.expect(sizeof memory.q);
  bulk_copy(memory.q, static_cast<const char*>(p.x.q) + place.q_index() * kQRows * kDim, sizeof memory.q,
            memory.q_full);
  for (int i = 0; i < count; ++i) {
    const Turn turn(i);
    const int64_t tile = first + count - 1 - i;
    if (i >= kStages) memory.k_empty[turn.stage].wait(turn.parity ^ 1);
    memory.k_full[turn.stage].expect(kKeys * kDim + sizeof memory.k_scale[0]);
    bulk_copy(memory.k[turn.stage], static_cast<const char*>(p.x.k) + tile * kKeys * kDim, kKeys * kDim,
              memory.k_full[turn.stage]);
    bulk_copy(memory.k_scale[turn.stage], p.x.k_scale + tile * kKScalesPerTile, sizeof memory.k_scale[0],
              memory.k_full[turn.stage]);
    if (i >= kStages) memory.v_empty[turn.stage].wait(turn.parity ^ 1);
    memory.v_full[turn.stage].expect(kDim * kKeys + (C::kTileScale ? sizeof memory.v_scale[0] : 0));
    bulk_copy(memory.v[turn.stage], static_cast<const char*>(p.x.v) + tile * kDim * kKeys, kDim * kKeys,
              memory.v_full[turn.stage]);
    if constexpr (C::kTileScale) {
      bulk_copy(memory.v_scale[turn.stage], p.x.v_scale + tile * kDim, sizeof memory.v_scale[0],
                memory.v_full[turn.stage]);
    }
  }
}

__device__ inline float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Four probabilities as e4m3, the first in the lowest byte.
__device__ inline uint32_t e4m3x4(float a, float b, float c, float d) {
  uint32_t packed;
  asm("{\n.reg .b16 low, high;\n"
      "cvt.rn.satfinite.e4m3x2.f32 low, %2, %1;\n"
      "cvt.rn.satfinite.e4m3x2.f32 high, %4, %3;\n"
      "mov.b32 %0, {low, high};\n}"
      : "=r"(packed)
      : "f"(a), "f"(b), "f"(c), "f"(d));
  return packed;
}

// Over the four threads that share a row.
template <class Combine>
__device__ float over_quad(float x, Combine combine) {
  x = combine(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return combine(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

// What a thread knows of its two rows, lane / 4 and lane / 4 + 8 of its warp's 16.
struct Softmax {
  float most[2] = {kNone, kNone};  // of scores in units of log2
  float sum[2] = {0, 0};           // of this thread's P, times 448
  float decay[2] = {1, 1};         // what the last tile scales earlier results by

  // From scores to P, in place: the bits of a float each. limit: keys of the tile that each row sees, if
  // kMasked.
  template <bool kMasked, bool kSumUp>
  __device__ void step(int (&s)[64], float sigma, const int (&limit)[2]) {
    const int column = threadIdx.x % 4 * 2;
    const auto seen = [&](int i) { return !kMasked || i / 4 * 8 + column + i % 2 < limit[i % 4 / 2]; };
    int top[2][2] = {{INT_MIN, INT_MIN}, {INT_MIN, INT_MIN}};  // two chains a row: one would wait for itself
#pragma unroll
    for (int i = 0; i < 64; i += 2) {
      int& most_so_far = top[i % 4 / 2][i / 4 % 2];
      most_so_far = __vimax3_s32(most_so_far, seen(i) ? s[i] : INT_MIN, seen(i + 1) ? s[i + 1] : INT_MIN);
    }
    float offset[2];
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const int highest = max(top[row][0], top[row][1]);
      float score = float(highest) * sigma;
      if (kMasked && highest == INT_MIN) score = kNone;
      const float now = fmaxf(most[row], over_quad(score, [](float a, float b) { return fmaxf(a, b); }));
      decay[row] = exp2_approx(most[row] - now);
      most[row] = now;
      offset[row] = kLog2Of448 - now;
      if (kSumUp) sum[row] *= decay[row];
    }
#pragma unroll
    for (int i = 0; i < 64; ++i) {
      const int row = i % 4 / 2;
      const float e = seen(i) ? exp2_approx(fmaf(float(s[i]), sigma, offset[row])) : 0.f;
      if (kSumUp) sum[row] += e;
      s[i] = __float_as_int(e);
    }
  }
};

// P in e4m3, as the A operand of P V.
__device__ inline void pack(const int (&s)[64], uint32_t (&p)[16]) {
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    const int first = i / 4 * 16 + i % 4 / 2 * 8 + i % 2 * 2;
    p[i] = e4m3x4(__int_as_float(s[first]), __int_as_float(s[first + 1]), __int_as_float(s[first + 4]),
                  __int_as_float(s[first + 5]));
  }
}

// One consumer warpgroup: 64 queries.
template <class C>
struct Consumer {
  static constexpr int kDim = C::kDimension, kOut = kDim / 2, kProduct = C::kRows / 2;
  const AttentionParams& p;
  typename C::Memory& memory;
  const int count;  // tiles of keys
  const int group;  // 0 or 1, known to be the same in the whole warp
  float q_scale;    // of both rows, times the softmax scale in units of log2
  Softmax softmax;
  float decay[2] = {1, 1};  // of the tile whose P V is under way
  int s[64];
  uint32_t probabilities[16];
  float out[kOut], product[kProduct];

  __device__ Consumer(const AttentionParams& params, typename C::Memory& shared)
      : p(params),
        memory(shared),
        count(Place{p}.count()),
        group(__shfl_sync(0xffffffffu, int(threadIdx.x / 128), 0) - 1) {
    const int index = q_scale_index(row_of_tile(0), q_group(Arch::Sm90));
    q_scale = p.x.q_scale[Place{p}.q_index() * q_scales_per_tile(Arch::Sm90) + index] * (p.scale * kLog2E);
#pragma unroll
    for (int i = 0; i < kOut; ++i) out[i] = 0;
  }

  __device__ static int lane() {
    return threadIdx.x % 32;
  }
  // Of this thread's two rows, among the 128 of the tile.
  __device__ static int row_of_tile(int row) {
    return (threadIdx.x - 128) / 32 * 16 + lane() / 4 + row * 8;
  }
  __device__ int query(int row) const {
    return Place{p}.q_tile() * kQRows + row_of_tile(row);
  }

  __device__ void issue_scores(const Turn& turn) {
    const uint64_t a = tile_descriptor<kDim>(memory.q + group * 64 * kDim);
    const uint64_t b = tile_descriptor<kDim>(memory.k[turn.stage]);
    products_begin();
    pin(s);
#pragma unroll
    for (int k = 0; k < kDim / 32; ++k) multiply_scores(s, a + 2 * k, b + 2 * k, k > 0);
    products_commit();
  }

  __device__ void issue_values(const Turn& turn) {
    const uint64_t b = tile_descriptor<kKeys>(memory.v[turn.stage]);
    products_begin();
#pragma unroll
    for (int k = 0; k < kKeys / 32; ++k) {
      const uint32_t a[4] = {probabilities[4 * k], probabilities[4 * k + 1], probabilities[4 * k + 2],
                             probabilities[4 * k + 3]};
      multiply_values(product, a, b + 2 * k, k > 0);
    }
    products_commit();
  }

  // Until the keys of tile i and the values of the tile before have come.
  __device__ void await_tiles(int i) {
    const Turn turn(i), last(i - 1);
    if (i < count) memory.k_full[turn.stage].wait(turn.parity);
    memory.v_full[last.stage].wait(last.parity);
  }

  // A warp is done with a place of the ring.
  __device__ void release(Barrier& empty) const {
    __syncwarp();
    if (lane() == 0) empty.arrive();
  }

  template <bool kMasked>
  __device__ void exponentials(int i, const Turn& turn) {
    const float sigma = q_scale * memory.k_scale[turn.stage][lane() % 4];
    release(memory.k_empty[turn.stage]);
    int limit[2] = {kKeys, kKeys};
    if constexpr (kMasked) {
#pragma unroll
      for (int row = 0; row < 2; ++row) limit[row] = Place{p}.keys_seen(query(row)) - (count - 1 - i) * kKeys;
    }
    softmax.template step<kMasked, !C::kOnes>(s, sigma, limit);
  }

  // The second level: the product of one tile joins the result in fp32.
  __device__ void accumulate(const Turn& turn) {
#pragma unroll
    for (int i = 0; i < kOut; ++i) {
      float x = product[i];
      if constexpr (C::kTileScale) x *= memory.v_scale[turn.stage][i / 4 * 8 + lane() % 4 * 2 + i % 2];
      out[i] = fmaf(out[i], decay[i % 4 / 2], x);
    }
    if constexpr (C::kOnes) {
#pragma unroll
      for (int row = 0; row < 2; ++row)
        softmax.sum[row] = fmaf(softmax.sum[row], decay[row], product[kOut + row * 2]);
    }
  }

  // P of tile i, from its scores. The product that read the registers of P is done.
  __device__ void next_probabilities() {
    pack(s, probabilities);
    decay[0] = softmax.decay[0], decay[1] = softmax.decay[1];
  }

  // Scores of tile i beside P V of tile i - 1.
  template <bool kMasked>
  __device__ void tile(int i) {
    const Turn turn(i), last(i - 1);
    await_turn(1 + group);
    issue_scores(turn);
    issue_values(last);
    if (group == 0 || i + 1 < count) give_turn(2 - group);
    if constexpr (kMasked) {  // rare: nothing is hidden here, and registers are saved
      products_wait<0>();
      pin(s), pin(product);
      accumulate(last);
      exponentials<kMasked>(i, turn);
      await_tiles(i + 1);
    } else {
      products_wait<1>();
      pin(s);
      exponentials<kMasked>(i, turn);
      pin(s);
      await_tiles(i + 1);  // a loop: ptxas would move the exponentials behind the wait for the product
      products_wait<0>();
      pin(product);
      accumulate(last);
    }
    next_probabilities();
    release(memory.v_empty[last.stage]);
  }

  // The first tile of all; the second warpgroup then leaves the first turn to the other.
  __device__ void first_tile() {
    const Turn turn(0);
    memory.q_full.wait(0);
    memory.k_full[0].wait(0);
    if (group == 1 && count > 1) give_turn(1);
    issue_scores(turn);
    products_wait<0>();
    pin(s);
    exponentials<true>(0, turn);
    next_probabilities();
    await_tiles(1);
  }

  __device__ void run() {
    first_tile();
    // Tiles that some row does not see wholly.
    const int whole = max(Place{p}.keys_seen(Place{p}.q_tile() * kQRows + group * 64), 0) / kKeys;
    int i = 1;
    for (; i < count - whole; ++i) tile<true>(i);
    for (; i < count; ++i) tile<false>(i);
    const Turn last(count - 1);
    issue_values(last);
    products_wait<0>();
    pin(product);
    accumulate(last);
  }

  __device__ void store() {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      float sum = softmax.sum[row];
      sum = C::kOnes ? __shfl_sync(0xffffffffu, sum, lane() & ~3)
                     : over_quad(sum, [](float a, float b) { return a + b; });
      const int at = query(row);
      if (at >= p.q_len) continue;
      if (p.lse && lane() % 4 == 0) store_lse(at, sum, softmax.most[row]);
      store_row(at, row, sum > 0 ? 1 / sum : 0.f);
    }
  }

  __device__ void store_lse(int at, float sum, float most) const {
    const Place place{p};
    const int64_t index = (int64_t(place.batch()) * p.heads + place.head()) * p.q_len + at;
    float lse = -INFINITY;
    if (sum > 0)
      lse = kLn2 * (most + log2f(sum) - kLog2Of448) + (p.x.q_shift ? p.x.q_shift[index] * p.scale : 0.f);
    p.lse[index] = lse;
  }

  __device__ void store_row(int at, int row, float inverse) {
    const Destination* to = p.to;
    while (at >= to->end) ++to;
    const Place place{p};
    const int64_t start = place.batch() * to->batch + (at - to->begin) * to->token + place.head() * to->head;
    const int64_t kv = (int64_t(place.batch()) * p.kv_heads + place.kv_head()) * kDim;
#pragma unroll
    for (int j = 0; j < kDim / 8; ++j) {
      const int column = j * 8 + lane() % 4 * 2;
      if (column >= p.head_dim) continue;
      float2 x{out[j * 4 + row * 2] * inverse, out[j * 4 + row * 2 + 1] * inverse};
      if constexpr (!C::kTileScale) {
        const float2 scale = *reinterpret_cast<const float2*>(p.x.v_scale + kv + column);
        x.x *= scale.x, x.y *= scale.y;
      }
      if (p.x.v_mean && inverse > 0) {
        const float2 mean = *reinterpret_cast<const float2*>(p.x.v_mean + kv + column);
        x.x += mean.x, x.y += mean.y;
      }
      if (p.scalar == sagelab::kernel::Scalar::BFloat16) {
        *reinterpret_cast<__nv_bfloat162*>(static_cast<__nv_bfloat16*>(to->out) + start + column) =
            __float22bfloat162_rn(x);
      } else {
        *reinterpret_cast<__half2*>(static_cast<__half*>(to->out) + start + column) = __float22half2_rn(x);
      }
    }
  }
};

template <class C>
__device__ void set_up(typename C::Memory& memory) {
  if (threadIdx.x == 0) {
    memory.q_full.init(1);
    for (int i = 0; i < kStages; ++i) {
      memory.k_full[i].init(1), memory.v_full[i].init(1);
      memory.k_empty[i].init(kConsumerWarps), memory.v_empty[i].init(kConsumerWarps);
    }
    publish_barriers();
  }
  if constexpr (C::kOnes) {
    constexpr uint32_t kOne = 0x38383838;  // 1.0 in e4m3
    constexpr int kWords = 8 * kKeys / 4;
    for (int i = threadIdx.x; i < kStages * kWords; i += kThreads) {
      uint32_t* rows = reinterpret_cast<uint32_t*>(memory.v[i / kWords] + C::kDimension * kKeys);
      rows[i % kWords] = i % kWords < kKeys / 4 ? kOne : 0;
    }
    publish_to_async();
  }
  __syncthreads();
}

template <class C>
__global__ __launch_bounds__(kThreads, 1) void attention_kernel(const __grid_constant__ AttentionParams p) {
  extern __shared__ char raw[];
  const uint32_t misaligned = shared_address(raw) % 1024;
  auto& memory = *reinterpret_cast<typename C::Memory*>(raw + (misaligned ? 1024 - misaligned : 0));
  set_up<C>(memory);
  if (threadIdx.x < 128) {
    give_registers<24>();
    if (threadIdx.x == 0 && Place{p}.count() > 0) produce<C>(p, memory);
  } else {
    take_registers<240>();
    Consumer<C> consumer(p, memory);
    if (consumer.count > 0) consumer.run();
    consumer.store();
  }
}

template <class C>
cudaError_t launch(const AttentionParams& p, cudaStream_t stream) {
  constexpr int kBytes = sizeof(typename C::Memory) + 1024;
  static const cudaError_t allowed =
      cudaFuncSetAttribute(attention_kernel<C>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (allowed != cudaSuccess) return allowed;
  const dim3 grid(unsigned(tiles(p.q_len, kQRows)), p.heads, p.batch);
  attention_kernel<C><<<grid, kThreads, kBytes, stream>>>(p);
  return cudaGetLastError();
}

}  // namespace sagelab::attention::sage2::hopper
