// SPDX-License-Identifier: Apache-2.0
// Hopper's bulk copies, the barriers they complete on, and the hand-over of registers between warpgroups.
#pragma once

#include <cstdint>

namespace sagelab::attention::sage2 {

__device__ inline uint32_t shared_address(const void* p) {
  return uint32_t(__cvta_generic_to_shared(p));
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
