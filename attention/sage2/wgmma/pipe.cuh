// SPDX-License-Identifier: Apache-2.0
// Hopper's bulk copies, the barriers they complete on, clusters of blocks that share them, and the hand-over
// of registers between warpgroups.
#pragma once

#include <cstdint>

namespace sagelab::attention::sage2 {

__device__ inline uint32_t shared_address(const void* p) {
  return uint32_t(__cvta_generic_to_shared(p));
}

// Where the same variable lies in another block of the cluster.
__device__ inline uint32_t address_in_block(const void* p, unsigned rank) {
  uint32_t address;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(shared_address(p)), "r"(rank));
  return address;
}
__device__ inline unsigned rank_in_cluster() {
  unsigned rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
// All threads of all blocks.
__device__ inline void cluster_barrier() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// An mbarrier in shared memory. Waiting names the parity of the phase that has to be over.
struct Barrier {
  uint64_t state;

  __device__ void init(int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&state)), "r"(arrivals));
  }
  __device__ void expect(uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&state)),
                 "r"(bytes)
                 : "memory");
  }
  __device__ void arrive() {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&state)) : "memory");
  }
  __device__ void wait(uint32_t parity) {
    asm volatile(
        "{\n.reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@done bra over;\n"
        "bra again;\n"
        "over:\n}" ::"r"(shared_address(&state)),
        "r"(parity)
        : "memory");
  }

  // At the barrier of another block of the cluster. It is to order reads of shared memory before what the
  // other copies there, and they were over when this thread's wait for them was. A release for the cluster
  // would wait for all of the thread's traffic, which takes longer than a tile.
  __device__ void arrive_in_block(unsigned rank) {
    asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(address_in_block(&state, rank))
                 : "memory");
  }
  // Then what another block of the cluster stored before is seen.
  __device__ void wait_for_cluster(uint32_t parity) {
    asm volatile(
        "{\n.reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
        "@done bra over;\n"
        "bra again;\n"
        "over:\n}" ::"r"(shared_address(&state)),
        "r"(parity)
        : "memory");
  }
};

// After the barriers are set up, before any other thread or the copy engine uses them.
__device__ inline void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
// Ordinary stores to shared memory become visible to the tensor cores and the copy engine.
__device__ inline void publish_to_async() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
// What this thread knows to be in global memory, by whomever it was stored, the copy engine sees as well.
__device__ inline void global_to_async() {
  asm volatile("fence.proxy.async.global;" ::: "memory");
}

// bytes: a multiple of 16; both sides on 16 bytes.
__device__ inline void bulk_copy(void* to, const void* from, uint32_t bytes, Barrier& done) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
          shared_address(to)),
      "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(shared_address(&done.state))
      : "memory");
}

// The same to that place in each of the cluster's blocks, where the barrier of the same name completes.
template <unsigned kBlocks>
__device__ void bulk_copy_to_cluster(void* to, const void* from, uint32_t bytes, Barrier& done) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, "
      "[%3], %4;" ::"r"(shared_address(to)),
      "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(shared_address(&done.state)),
      "h"(uint16_t((1u << kBlocks) - 1))
      : "memory");
}

// Stores x in another block's variable, where the barrier of the same name completes by its bytes.
__device__ inline void store_in_block(unsigned rank, unsigned& to, unsigned x, Barrier& done) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.u32 [%0], %1, [%2];" ::"r"(
                   address_in_block(&to, rank)),
               "r"(x), "r"(address_in_block(&done.state, rank))
               : "memory");
}

// Registers of the calling warpgroup.
template <int kRegisters>
__device__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

}  // namespace sagelab::attention::sage2
