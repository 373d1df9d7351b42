// SPDX-License-Identifier: Apache-2.0
// The producer: one thread takes the next queries, and copies them and tiles of K and V into rings.
//
// Note [Beside]. The prologue may still be under way, on multiprocessors of its own: the producer waits until
// the operands of a head are whole. Blocks for which there is no room yet come when the prologue leaves, and
// take what tiles there are left.
//
// Note [Order]. Tiles of keys go from the last to the first, since only the last can hold keys that are
// masked.
//
// Note [Pair]. Of two blocks in a cluster, the first takes items for both and copies keys to both, the second
// values. Who does not copy a tile says when it waits for it: its place is empty, its barrier expects the
// bytes. Neither can leave while something is still to land in it, since it waits for all that does.
#pragma once

#include "attention/device/flags.cuh"
#include "attention/sage2/wgmma/config.cuh"

namespace sagelab::attention::sage2::hopper {

// Under a causal mask the tiles with most work go first, over as many heads as the level 2 cache holds at
// once.
template <class C>
__device__ Item item_at(const AttentionParams& p, unsigned index, unsigned clusters, unsigned rank) {
  constexpr unsigned kCached = 24 << 20;  // bytes of K and V
  constexpr int kTogether = C::kQueries * C::kBlocks;
  const unsigned all = p.batch * p.heads;
  const unsigned together =
      p.causal ? min(max(kCached / (2 * C::kDimension) / unsigned(p.kv_len), 1u), all) : 1;
  const unsigned first = index / (together * clusters) * together, within = index - first * clusters;
  const unsigned here = min(together, all - first), head = first + within % here;
  const int query = int(clusters - 1 - within / here) * kTogether;
  const int keys = max(keys_seen(p, query + kTogether - 1), 1);  // none: one tile, all of it masked
  // Heads of one batch share those of K and V in order, so this holds across batches.
  const int kv = int(head / unsigned(p.heads / p.kv_heads));
  return {int(head / p.heads), int(head % p.heads), query + int(rank) * C::kQueries, kv,
          int(tiles(keys, kKeys))};
}

template <class C>
class Producer {
 public:
  __device__ Producer(const AttentionParams& params, typename C::Memory& shared)
      : p(params), memory(shared), rank(C::kBlocks > 1 ? rank_in_cluster() : 0) {}

  __device__ void run() {
    const unsigned clusters = unsigned(tiles(p.q_len, kQueries * C::kBlocks)),
                   all = clusters * p.heads * p.batch;
    unsigned index = agree(take(all), 0);
    int whole = -1;  // the head of K and V that is known to be
    for (unsigned n = 0;; ++n) {
      const Turn<kQStages> turn(n);
      if (n >= kQStages) memory.q_empty[turn.stage].wait(turn.parity ^ 1);
      if (index >= all) {
        memory.items[turn.stage].count = 0;
        memory.item_full[turn.stage].arrive();
        break;
      }
      const Item item = item_at<C>(p, index, clusters, rank);
      memory.items[turn.stage] = item;
      memory.item_full[turn.stage].arrive();
      if (item.kv != whole) await_operands(whole = item.kv);
      queries(item, turn.stage);
      index = take(all);  // on its way meanwhile
      keys_and_values(item);
      index = agree(index, n + 1);
    }
    sagelab::kernel::await_prerequisites();  // what follows this launch also follows the prologue
  }

 private:
  static constexpr int kDim = C::kDimension, kQueries = C::kQueries;
  static constexpr unsigned kOfKeys = 0, kOfValues = C::kBlocks - 1;  // blocks, of a cluster

  // Wraps to 0 with the last question, since each cluster asks once too often.
  __device__ unsigned take(unsigned all) const {
    return rank == 0 ? atomicInc(p.counters.next(), all + gridDim.x / C::kBlocks - 1) : 0;
  }

  // The first block's index, the n-th that it took. The other has read the one before: it has been through
  // the tiles of that item.
  __device__ unsigned agree(unsigned index, unsigned n) {
    if constexpr (C::kBlocks > 1) {
      if (rank == 0) {
        store_in_block(1, memory.index, index, memory.index_full);
      } else {
        memory.index_full.expect(sizeof memory.index);
        memory.index_full.wait_for_cluster(n % 2);
        index = *const_cast<volatile unsigned*>(&memory.index);
      }
    }
    return index;
  }

  __device__ void await_operands(int kv) const {
    sagelab::kernel::await_at_least(p.counters.ready(kv), 1);
    global_to_async();
  }

  // Tiles of queries follow each other without a gap, so a block may end within one; the last has less, or
  // none.
  __device__ void queries(const Item& item, unsigned stage) {
    constexpr uint32_t kChannels = kDim * sizeof(float), kScale = sizeof(float) / kQueriesPerScale;
    const int64_t kv = int64_t(item.kv) * kDim, padded = tiles(p.q_len, kQRows) * kQRows;
    const int64_t row = (int64_t(item.batch) * p.heads + item.head) * padded + item.query;
    const uint32_t rows = uint32_t(max(min(padded - item.query, int64_t(kQueries)), int64_t(0)));
    Barrier& full = memory.q_full[stage];
    full.expect(rows * (kDim + kScale) + (C::kTileScale ? 0 : kChannels) + (p.x.v_mean ? kChannels : 0));
    if constexpr (!C::kTileScale) bulk_copy(memory.v_scale[stage], p.x.v_scale + kv, kChannels, full);
    if (p.x.v_mean) bulk_copy(memory.v_mean[stage], p.x.v_mean + kv, kChannels, full);
    if (rows == 0) return;
    bulk_copy(memory.q[stage], static_cast<const char*>(p.x.q) + row * kDim, rows * kDim, full);
    bulk_copy(memory.q_scale[stage], p.x.q_scale + row / kQueriesPerScale, rows * kScale, full);
  }

  __device__ void keys_and_values(const Item& item) {
    const int64_t first = item.kv * tiles(p.kv_len, kKeys);
#pragma unroll 1  // registers are few here
    for (int i = 0; i < item.count; ++i, ++done) {
      const Turn turn(done);
      const int64_t tile = first + item.count - 1 - i;
      Barrier &k_full = memory.k_full[turn.stage], &v_full = memory.v_full[turn.stage];
      constexpr uint32_t kScales = sizeof memory.k_scale[0], kTileScales = sizeof memory.v_scale[0];
      if (begin<kOfKeys>(turn, memory.k_empty, memory.k_ready, k_full, kKeys * kDim + kScales)) {
        copy(memory.k[turn.stage], static_cast<const char*>(p.x.k) + tile * kKeys * kDim, kKeys * kDim,
             k_full);
        copy(memory.k_scale[turn.stage], p.x.k_scale + tile * kKScalesPerTile, kScales, k_full);
      }
      if (begin<kOfValues>(turn, memory.v_empty, memory.v_ready, v_full,
                           kDim * kKeys + (C::kTileScale ? kTileScales : 0))) {
        copy(memory.v[turn.stage], static_cast<const char*>(p.x.v) + tile * kDim * kKeys, kDim * kKeys,
             v_full);
        if constexpr (C::kTileScale)
          copy(memory.v_scale[turn.stage], p.x.v_scale + tile * kDim, kTileScales, v_full);
      }
    }
  }

  // Once a place is empty, in all blocks of the cluster where this one copies. Whether it does.
  template <unsigned kCopies>
  __device__ bool begin(const Turn<>& turn, Barrier* empty, Barrier* ready, Barrier& full, uint32_t bytes) {
    if (done >= kStages) empty[turn.stage].wait(turn.parity ^ 1);
    full.expect(bytes);
    if constexpr (C::kBlocks > 1) {
      if (rank != kCopies) {
        ready[turn.stage].arrive_in_block(kCopies);
        return false;
      }
      ready[turn.stage].wait(turn.parity);
    }
    return true;
  }

  // To all blocks of the cluster.
  __device__ static void copy(void* to, const void* from, uint32_t bytes, Barrier& full) {
    if constexpr (C::kBlocks > 1)
      bulk_copy_to_cluster<C::kBlocks>(to, from, bytes, full);
    else
      bulk_copy(to, from, bytes, full);
  }

  const AttentionParams& p;
  typename C::Memory& memory;
  const unsigned rank;
  unsigned done = 0;  // tiles of keys so far
};

}  // namespace sagelab::attention::sage2::hopper
