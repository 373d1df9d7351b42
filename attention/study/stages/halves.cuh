// SPDX-License-Identifier: Apache-2.0
// Hopper's kernel with tiles of 64 keys: scores of the next half beside the softmax of this one.
#pragma once

#include "attention/sage2/wgmma/attention.cuh"

namespace sagelab::attention::study {

namespace hopper = sage2::hopper;

// D [64 x 64] += A [64 x 32] B [64 x 32]^T, int8, both from shared memory.
__device__ inline void multiply_scores(int (&d)[32], uint64_t a, uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k32.s32.s8.s8 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, "
      "%18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
      "}, %32, %33, p;\n}"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3]), "+r"(d[4]), "+r"(d[5]), "+r"(d[6]), "+r"(d[7]),
        "+r"(d[8]), "+r"(d[9]), "+r"(d[10]), "+r"(d[11]), "+r"(d[12]), "+r"(d[13]), "+r"(d[14]), "+r"(d[15]),
        "+r"(d[16]), "+r"(d[17]), "+r"(d[18]), "+r"(d[19]), "+r"(d[20]), "+r"(d[21]), "+r"(d[22]),
        "+r"(d[23]), "+r"(d[24]), "+r"(d[25]), "+r"(d[26]), "+r"(d[27]), "+r"(d[28]), "+r"(d[29]),
        "+r"(d[30]), "+r"(d[31])
      : "l"(a), "l"(b), "r"(int(add)));
}

template <class C>
class HalfConsumer : hopper::Consumer<C> {
  static_assert(C::kHas.scores && C::kHas.values && C::kHas.packing);  // all of it, and no turns
  using Base = hopper::Consumer<C>;
  using Base::accumulate, Base::lane, Base::release, Base::row_of_tile, Base::store;
  using Base::p, Base::memory, Base::group, Base::first, Base::count, Base::q_scale, Base::softmax,
      Base::decay, Base::out, Base::product, Base::kDim, Base::kOut;
  static constexpr int kKeys = hopper::kKeys, kHalf = kKeys / 2;
  template <unsigned kPlaces = hopper::kStages>
  using Turn = hopper::Turn<kPlaces>;

  int scores[2][32];
  uint32_t chances[8];
  float sigma;

 public:
  using Base::Base;

  __device__ void run() {
    memory.item_full[0].wait(0);
    if (memory.items[0].count == 0) return;
    memory.q_full[0].wait(0);
    memory.k_full[0].wait(0);
    issue_scores<0>(0, Turn<>(0));
    sage2::products_wait<0>();
    sage2::pin(scores[0]);
    for (unsigned n = 0;; ++n) {
      const bool more = queries(n);
      store(Turn<hopper::kQStages>(n).stage);
      memory.q_empty[Turn<hopper::kQStages>(n).stage].arrive();
      if (!more) break;
      first += count;
    }
  }

 private:
  // A group of products each.
  template <int kWhich>
  __device__ void issue_scores(unsigned q_stage, const Turn<>& turn) {
    const uint64_t a = sage2::tile_descriptor<kDim>(memory.q[q_stage] + group * 64 * kDim);
    const uint64_t b = sage2::tile_descriptor<kDim>(memory.k[turn.stage] + kWhich * kHalf * kDim);
    sage2::products_begin();
    sage2::pin(scores[kWhich]);
#pragma unroll
    for (int k = 0; k < kDim / 32; ++k) multiply_scores(scores[kWhich], a + 2 * k, b + 2 * k, k > 0);
    sage2::products_commit();
  }
  template <int kWhich>
  __device__ void issue_values(const Turn<>& turn) {
    const uint64_t b = sage2::tile_descriptor<kKeys>(memory.v[turn.stage]) + kWhich * 4;
    sage2::products_begin();
#pragma unroll
    for (int k = 0; k < kHalf / 32; ++k) {
      const uint32_t a[4] = {chances[4 * k], chances[4 * k + 1], chances[4 * k + 2], chances[4 * k + 3]};
      sage2::multiply_values(product, a, b + 2 * k, k > 0);
    }
    sage2::products_commit();
  }

  template <int kWhich, bool kMasked>
  __device__ void exponentials(int i, int q_tile) {
    const Turn<> turn(first + i);
    if constexpr (kWhich == 0) sigma = q_scale * memory.k_scale[turn.stage][lane() % 4];
    int limit[2] = {kHalf, kHalf};
    if constexpr (kMasked) {
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        const int query = q_tile * sage2::kQRows + row_of_tile(row);
        limit[row] = hopper::keys_seen(p, query) - (count - 1 - i) * kKeys - kWhich * kHalf - lane() % 4 * 2;
      }
    }
    softmax.template step<kMasked>(scores[kWhich], sigma, limit);
    sage2::pin(scores[kWhich]);
  }
  template <int kWhich>
  __device__ void next_chances() {
    hopper::pack<C>(scores[kWhich], chances);
    decay[0] = softmax.decay[0], decay[1] = softmax.decay[1];
  }

  // Of the tile after tile i, of these queries or the next, where there are more. Returns where its queries
  // are.
  __device__ unsigned await_next(int i, unsigned n, bool& more) {
    const Turn<hopper::kQStages> now(n), then(n + 1);
    unsigned q_stage = now.stage;
    if (i + 1 == count) {
      memory.item_full[then.stage].wait(then.parity);
      more = memory.items[then.stage].count > 0;
      if (more) memory.q_full[then.stage].wait(then.parity);
      q_stage = then.stage;
    }
    const Turn<> next(first + i + 1);
    if (more) memory.k_full[next.stage].wait(next.parity);
    return q_stage;
  }

  // The scores of its first half have come; P of the half before it is packed.
  __device__ void tile(int i, unsigned n, int q_tile, bool& more) {
    const Turn<> turn(first + i), last(first + i - 1), next(first + i + 1);
    issue_values<1>(last);
    issue_scores<1>(Turn<hopper::kQStages>(n).stage, turn);
    exponentials<0, false>(i, q_tile);
    memory.v_full[turn.stage].wait(turn.parity);  // a loop: ptxas would move exponentials behind the products
    sage2::products_wait<1>();
    sage2::pin(product);
    accumulate(last);
    next_chances<0>();
    issue_values<0>(turn);
    sage2::products_wait<1>();
    sage2::pin(scores[1]);
    release(memory.v_empty[last.stage]);
    memory.k_empty[turn.stage].arrive();
    const unsigned q_stage = await_next(i, n, more);
    issue_scores<0>(q_stage, next);  // without more queries of whatever is there
    exponentials<1, false>(i, q_tile);
    memory.v_full[turn.stage].wait(turn.parity);
    sage2::products_wait<1>();
    sage2::pin(product);
    accumulate(turn);
    next_chances<1>();
    sage2::products_wait<0>();
    sage2::pin(scores[0]);
  }

  // The same with a mask, one after the other. kFirst: no half was before it.
  template <bool kFirst>
  __device__ void masked(int i, unsigned n, int q_tile, bool& more) {
    const Turn<> turn(first + i), last(first + i - 1), next(first + i + 1);
    if constexpr (!kFirst) {
      issue_values<1>(last);
      sage2::products_wait<0>();
      sage2::pin(product);
      accumulate(last);
      release(memory.v_empty[last.stage]);
    }
    exponentials<0, true>(i, q_tile);
    next_chances<0>();
    memory.v_full[turn.stage].wait(turn.parity);
    issue_scores<1>(Turn<hopper::kQStages>(n).stage, turn);
    issue_values<0>(turn);
    sage2::products_wait<0>();
    sage2::pin(scores[1]), sage2::pin(product);
    memory.k_empty[turn.stage].arrive();
    accumulate(turn);
    exponentials<1, true>(i, q_tile);
    next_chances<1>();
    const unsigned q_stage = await_next(i, n, more);
    issue_scores<0>(q_stage, next);
    sage2::products_wait<0>();
    sage2::pin(scores[0]);
  }

  __device__ bool queries(unsigned n) {
    const unsigned q_stage = Turn<hopper::kQStages>(n).stage;
    count = memory.items[q_stage].count;
    const int q_tile = memory.items[q_stage].q_tile;
    q_scale =
        memory.q_scale[q_stage][sage2::q_scale_index(row_of_tile(0), sage2::q_group(sage2::Arch::Sm90))] *
        (p.scale * hopper::kLog2E);
    softmax = {};
#pragma unroll
    for (int i = 0; i < kOut; ++i) out[i] = 0;
    const int whole = max(hopper::keys_seen(p, q_tile * sage2::kQRows + group * 64), 0) / kKeys;
    bool more = true;
    masked<true>(0, n, q_tile, more);
    int i = 1;
    for (; i < count - whole; ++i) masked<false>(i, n, q_tile, more);
    for (; i < count; ++i) tile(i, n, q_tile, more);
    const Turn<> last(first + count - 1);
    issue_values<1>(last);
    sage2::products_wait<0>();
    sage2::pin(product);
    accumulate(last);
    release(memory.v_empty[last.stage]);
    return more;
  }
};

}  // namespace sagelab::attention::study
