// SPDX-License-Identifier: Apache-2.0
// Attention on Hopper: INT8 Q K^T and e4m3 P V by wgmma, with two-level accumulation (SageAttention2,
// sections 3.2, 3.3).
//
// Note [Roles]. A block stays on its multiprocessor and takes one item of queries after the other. Its first
// warpgroup is the producer (producer.cuh). The others are consumers; each has 64 queries and goes through
// the tiles of keys on its own, one step after the other: while one waits for its products, the others are at
// their softmax. S and P V never live at once.
//
// Note [Slack]. Where the configuration says so, a row's maximum moves only if a score exceeds it by more
// than a few powers of 2, for which P leaves room. That is rare after a row's first tile, so the threads of a
// row need not agree on a maximum at every tile, and results are scaled when it moves, not with each sum.
#pragma once

#include <climits>

#include "attention/device/launch.cuh"
#include "attention/device/pack.cuh"
#include "attention/sage2/wgmma/producer.cuh"
#include "attention/sage2/wgmma/wgmma.cuh"

namespace sagelab::attention::sage2::hopper {

constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;
constexpr float kNone = -1e30f;  // the maximum of no key

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
template <class C>
struct Softmax {
  float most[2] = {kNone, kNone};  // of scores in units of log2, less at most the slack
  float sum[2] = {0, 0};           // of this thread's P, times 2^kLift
  float decay[2] = {1, 1};         // what the last tile scales earlier results by, if there is no slack

  // From scores to P, in place: the bits of a float each. limit: keys of the tile that each row sees, from
  // this thread's first on, if kMasked. out: earlier results, scaled here if there is slack.
  template <bool kMasked, int kOut>
  __device__ void step(int (&s)[64], float sigma, const int (&limit)[2], float (&out)[kOut]) {
    const auto seen = [&](int i) { return !kMasked || i / 4 * 8 + i % 2 < limit[i % 4 / 2]; };
    int top[2][2] = {{INT_MIN, INT_MIN}, {INT_MIN, INT_MIN}};  // two chains a row: one would wait for itself
#pragma unroll
    for (int i = 0; i < (C::kHas.maxima ? 64 : 2); i += 2) {
      int& most_so_far = top[i % 4 / 2][i / 4 % 2];
      most_so_far = __vimax3_s32(most_so_far, seen(i) ? s[i] : INT_MIN, seen(i + 1) ? s[i + 1] : INT_MIN);
    }
    float score[2], offset[2];  // rounded such that P is at most 448 also where scores are huge
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const int highest = max(top[row][0], top[row][1]);
      score[row] = __fmul_ru(float(highest), sigma);
      if (kMasked && highest == INT_MIN) score[row] = kNone;
    }
    if constexpr (C::kSlack > 0) {
      const bool higher = score[0] > most[0] + C::kSlack || score[1] > most[1] + C::kSlack;
      if (__any_sync(0xffffffffu, higher)) {
        move(score);
#pragma unroll
        for (int i = 0; i < kOut; ++i) out[i] *= decay[i % 4 / 2];
        decay[0] = decay[1] = 1;
      }
    } else {
      move(score);
    }
#pragma unroll
    for (int row = 0; row < 2; ++row) offset[row] = __fsub_rd(C::kLift, most[row]);
#pragma unroll
    for (int i = 0; i < 64; ++i) {
      const int row = i % 4 / 2;
      const float score = C::kHas.conversions ? float(s[i]) : __int_as_float(s[i]);
      const float x = fmaf(score, sigma, offset[row]);
      const float e = !seen(i) ? 0.f : C::kHas.exponentials ? exp2_approx(x) : x;
      if (!C::kOnes) sum[row] += e;
      s[i] = __float_as_int(e);
    }
  }

 private:
  // Of both rows. score: the highest of this thread's part of them.
  __device__ void move(const float (&score)[2]) {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const float here = over_quad(score[row], [](float a, float b) { return fmaxf(a, b); });
      const float now = here > most[row] + C::kSlack ? here : most[row];
      decay[row] = exp2_approx(most[row] - now);
      most[row] = now;
      if (C::kSlack > 0 || !C::kOnes) sum[row] *= decay[row];
    }
  }
};

// So that what nobody reads is computed all the same.
__device__ inline void keep(const uint32_t (&x)[16]) {
  uint32_t all = 0;
#pragma unroll
  for (const uint32_t one : x) all ^= one;
  asm volatile("{\n.reg .pred p;\nsetp.eq.u32 p, %0, 0;\n@p nanosleep.u32 0;\n}" ::"r"(all));
}

// P in e4m3, as the A operand of P V.
template <class C>
__device__ void pack(const int (&s)[64], uint32_t (&p)[16]) {
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    const int first = i / 4 * 16 + i % 4 / 2 * 8 + i % 2 * 2;
    const int *a = s + first, *b = a + 4;
    p[i] = C::kHas.packing ? e4m3x4(__int_as_float(a[0]), __int_as_float(a[1]), __int_as_float(b[0]),
                                    __int_as_float(b[1]))
                           : a[0] ^ a[1] ^ b[0] ^ b[1];
  }
}

// One consumer warpgroup: 64 queries at a time.
template <class C>
class Consumer {
 public:
  __device__ Consumer(const AttentionParams& params, typename C::Memory& shared)
      : p(params), memory(shared), group(__shfl_sync(0xffffffffu, int(threadIdx.x / 128), 0) - 1) {}

  __device__ void run() {
    for (unsigned n = 0;; ++n) {
      const Turn<kQStages> turn(n);
      memory.item_full[turn.stage].wait(turn.parity);
      if (memory.items[turn.stage].count == 0) return;
      memory.q_full[turn.stage].wait(turn.parity);
      queries(turn.stage);
      store(turn.stage);
      memory.q_empty[turn.stage].arrive();
    }
  }

 private:
  static constexpr int kDim = C::kDimension, kOut = kDim / 2;
  // Whether a register is left for it.
  static constexpr bool kKeepsScale = !C::kTileScale && C::kConsumers == 3;
  const AttentionParams& p;
  typename C::Memory& memory;
  const int group;    // known to be the same in the whole warp
  unsigned next = 0;  // tile of keys, in the ring
  float q_scale;      // of both rows, if kept
  Softmax<C> softmax;
  int s[64];
  uint32_t probabilities[16];
  float out[kOut];

  __device__ static int lane() { return threadIdx.x % 32; }
  // Of this thread's two rows, among those of the block. Looked up anew each time: no register is left to
  // keep it in.
  __device__ static int row_of_block(int row) {
    int thread;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
    return (thread - 128) / 32 * 16 + thread % 32 / 4 + row * 8;
  }

  // Of both rows, times the softmax scale in units of log2.
  __device__ float queries_scale(unsigned q_stage) const {
    return memory.q_scale[q_stage][q_scale_index(row_of_block(0), q_group(Arch::Sm90))] * (p.scale * kLog2E);
  }

  // A warp is done with a place of a ring.
  __device__ void release(Barrier& empty) const {
    __syncwarp();
    if (lane() == 0) empty.arrive();
  }

  // Keys that no query of this group sees.
  __device__ void skip() {
    const Turn turn(next++);
    memory.k_full[turn.stage].wait(turn.parity);
    memory.k_empty[turn.stage].arrive();
    memory.v_full[turn.stage].wait(turn.parity);
    release(memory.v_empty[turn.stage]);
  }

  __device__ void scores(const Turn<>& turn, unsigned q_stage) {
    memory.k_full[turn.stage].wait(turn.parity);
    products_begin();
    const uint64_t a = tile_descriptor<kDim>(memory.q[q_stage] + group * kGroup * kDim);
    const uint64_t b = tile_descriptor<kDim>(memory.k[turn.stage]);
    pin(s);
#pragma unroll
    for (int k = 0; k < (C::kHas.scores ? kDim / 32 : 0); ++k)
      multiply_scores(s, a + 2 * k, b + 2 * k, k > 0);
    products_commit();
  }

  // Of a tile of keys, the key-th of all.
  template <bool kMasked>
  __device__ void exponentials(int key, const Turn<>& turn, unsigned q_stage) {
    const float sigma =
        (kKeepsScale ? q_scale : queries_scale(q_stage)) * memory.k_scale[turn.stage][lane() % 4];
    products_wait<0>();
    pin(s);
    memory.k_empty[turn.stage].arrive();  // each thread, since each has read
    int limit[2] = {kKeys, kKeys};
    if constexpr (kMasked) {
#pragma unroll
      for (int row = 0; row < 2; ++row)
        limit[row] =
            keys_seen(p, memory.items[q_stage].query + row_of_block(row)) - key * kKeys - lane() % 4 * 2;
    }
    softmax.template step<kMasked>(s, sigma, limit, out);
    pack<C>(s, probabilities);
    if constexpr (!C::kHas.values) keep(probabilities);
  }

  // P V of one tile joins the result in fp32: the second level.
  __device__ void values(const Turn<>& turn) {
    float product[C::kRows / 2];
    memory.v_full[turn.stage].wait(turn.parity);
    const uint64_t b = tile_descriptor<kKeys>(memory.v[turn.stage]);
    products_begin();
#pragma unroll
    for (int k = 0; k < (C::kHas.values ? kKeys / 32 : 0); ++k) {
      const uint32_t a[4] = {probabilities[4 * k], probabilities[4 * k + 1], probabilities[4 * k + 2],
                             probabilities[4 * k + 3]};
      multiply_values(product, a, b + 2 * k, k > 0);
    }
    products_commit();
    products_wait<0>();
    pin(product);
    if constexpr (!C::kTileScale) release(memory.v_empty[turn.stage]);
#pragma unroll
    for (int i = 0; i < (C::kHas.second_level ? kOut : 0); ++i) {
      float x = product[i];
      if constexpr (C::kTileScale) x *= memory.v_scale[turn.stage][i / 4 * 8 + lane() % 4 * 2 + i % 2];
      out[i] = fmaf(out[i], softmax.decay[i % 4 / 2], x);
    }
    if constexpr (C::kOnes) {
#pragma unroll
      for (int row = 0; row < 2; ++row)
        softmax.sum[row] = fmaf(softmax.sum[row], softmax.decay[row], product[kOut + row * 2]);
    }
    if constexpr (C::kTileScale) release(memory.v_empty[turn.stage]);
  }

  template <bool kMasked>
  __device__ void tile(int key, unsigned q_stage) {
    const Turn turn(next++);
    scores(turn, q_stage);
    exponentials<kMasked>(key, turn, q_stage);
    values(turn);
  }

  __device__ void queries(unsigned q_stage) {
    const int mine = memory.items[q_stage].query + group * kGroup;
    q_scale = queries_scale(q_stage);
    softmax = {};
#pragma unroll
    for (int i = 0; i < kOut; ++i) out[i] = 0;
    // Tiles that no row of these sees come first, then those that some row does not see wholly.
    const int some = mine < p.q_len ? int(tiles(max(keys_seen(p, mine + kGroup - 1), 0), kKeys)) : 0;
    const int whole = max(keys_seen(p, mine), 0) / kKeys;
    int key = memory.items[q_stage].count;
    while (key > some) skip(), --key;
    while (key > whole) tile<true>(--key, q_stage);
    while (key > 0) tile<false>(--key, q_stage);
  }

  __device__ void store(unsigned q_stage) {
    const Item& item = memory.items[q_stage];
    float inverse[2];
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const float sum = C::kOnes ? __shfl_sync(0xffffffffu, softmax.sum[row], lane() & ~3)
                                 : over_quad(softmax.sum[row], [](float a, float b) { return a + b; });
      inverse[row] = sum > 0 ? 1 / sum : 0.f;
      const int query = item.query + row_of_block(row);
      if (p.lse && lane() % 4 == 0 && query < p.q_len) store_lse(item, query, sum, softmax.most[row]);
    }
    store_rows(item, q_stage, inverse);
  }

  __device__ void store_lse(const Item& item, int query, float sum, float most) const {
    const int64_t index = (int64_t(item.batch) * p.heads + item.head) * p.q_len + query;
    float lse = -INFINITY;
    if (sum > 0)
      lse = kLn2 * (most + log2f(sum) - C::kLift) + (p.x.q_shift ? p.x.q_shift[index] * p.scale : 0.f);
    p.lse[index] = lse;
  }

  __device__ void store_rows(const Item& item, unsigned q_stage, const float (&inverse)[2]) {
    uint32_t* to[2];
    float present[2];
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      to[row] = row_of_result(item, item.query + row_of_block(row));
      present[row] = inverse[row] > 0 ? 1.f : 0.f;
    }
    const bool bf16 = p.scalar == sagelab::kernel::Scalar::BFloat16;
#pragma unroll
    for (int j = 0; j < kDim / 8; ++j) {
      const int column = j * 8 + lane() % 4 * 2;
      float2 scale{1, 1};
      if constexpr (!C::kTileScale)
        scale = *reinterpret_cast<const float2*>(memory.v_scale[q_stage] + column);
      const float2 mean = *reinterpret_cast<const float2*>(memory.v_mean[q_stage] + column);
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        const float* x = out + j * 4 + row * 2;
        const uint32_t pair = rounded(fmaf(mean.x, present[row], x[0] * inverse[row] * scale.x),
                                      fmaf(mean.y, present[row], x[1] * inverse[row] * scale.y), bf16);
        if (to[row] && column < p.head_dim) to[row][column / 2] = pair;
      }
    }
  }

  __device__ static uint32_t rounded(float low, float high, bool bf16) {
    uint32_t a, b;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(a) : "f"(high), "f"(low));
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(b) : "f"(high), "f"(low));
    return bf16 ? a : b;
  }

  // In pairs of elements; null beyond the last query.
  __device__ uint32_t* row_of_result(const Item& item, int query) const {
    if (query >= p.q_len) return nullptr;
    const Destination* to = p.to;
    while (query >= to->end) ++to;
    const int64_t start = item.batch * to->batch + (query - to->begin) * to->token + item.head * to->head;
    return static_cast<uint32_t*>(to->out) + start / 2;
  }
};

template <class C>
__device__ void set_up(typename C::Memory& memory) {
  if (threadIdx.x == 0) {
    for (int i = 0; i < kQStages; ++i) {
      memory.item_full[i].init(1), memory.q_full[i].init(1);
      memory.q_empty[i].init(C::kConsumerWarps * 32);
    }
    for (int i = 0; i < kStages; ++i) {
      memory.k_full[i].init(1), memory.v_full[i].init(1);
      memory.k_empty[i].init(C::kConsumerWarps * 32), memory.v_empty[i].init(C::kConsumerWarps);
    }
    for (int i = 0; i < (C::kBlocks > 1 ? kStages : 0); ++i)
      memory.k_ready[i].init(1), memory.v_ready[i].init(1);
    memory.index_full.init(1);
    publish_barriers();
  }
  for (int i = threadIdx.x; i < kQStages * C::kDimension; i += C::kThreads)
    memory.v_mean[i / C::kDimension][i % C::kDimension] = 0;
  if constexpr (C::kOnes) {
    constexpr uint32_t kOne = 0x38383838;  // 1.0 in e4m3
    constexpr int kWords = 8 * kKeys / 4;
    for (int i = threadIdx.x; i < kStages * kWords; i += C::kThreads) {
      uint32_t* rows = reinterpret_cast<uint32_t*>(memory.v[i / kWords] + C::kDimension * kKeys);
      rows[i % kWords] = i % kWords < kKeys / 4 ? kOne : 0;
    }
  }
  publish_to_async();
  if constexpr (C::kBlocks > 1)
    cluster_barrier();
  else
    __syncthreads();
}

template <class C>
__global__ __launch_bounds__(C::kThreads,
                             1) void attention_kernel(const __grid_constant__ AttentionParams p) {
  extern __shared__ char raw[];
  const uint32_t misaligned = shared_address(raw) % 1024;
  auto& memory = *reinterpret_cast<typename C::Memory*>(raw + (misaligned ? 1024 - misaligned : 0));
  set_up<C>(memory);
  if (threadIdx.x < 128) {
    give_registers<32>();
    if (threadIdx.x == 0) Producer<C>(p, memory).run();
  } else {
    take_registers<C::kRegisters>();
    Consumer<C>(p, memory).run();
  }
}

template <class C>
cudaError_t launch(const AttentionParams& p, cudaStream_t stream) {
  constexpr int kBytes = sizeof(typename C::Memory) + 1024;
  const int64_t items = tiles(p.q_len, C::kQueries * C::kBlocks) * p.heads * p.batch,
                together = sagelab::kernel::processors() / C::kBlocks;
  const unsigned grid = unsigned(items < together ? items : together) * C::kBlocks;
  return sagelab::kernel::launch(attention_kernel<C>, {grid, C::kThreads, kBytes, p.beside, C::kBlocks},
                                 stream, p);
}

}  // namespace sagelab::attention::sage2::hopper
