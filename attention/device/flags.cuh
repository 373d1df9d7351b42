// SPDX-License-Identifier: Apache-2.0
// How thread blocks tell each other, through memory, that something is there.
#pragma once

namespace sagelab::kernel {

// What the calling thread has seen done before, by itself or through a barrier, comes before the new value.
__device__ inline void add_release(unsigned* flag, unsigned x) {
  asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(flag)), "r"(x)
               : "memory");
}

// Until the flag is `least` or more; then what came before that is seen.
__device__ inline void await_at_least(const unsigned* flag, unsigned least) {
  for (;;) {
    unsigned x;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];"
                 : "=r"(x)
                 : "l"(__cvta_generic_to_global(flag))
                 : "memory");
    if (x >= least) return;
    __nanosleep(100);
  }
}

// The launch that follows in the stream may begin as soon as all thread blocks have come here, or are done.
__device__ inline void let_dependents_begin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
// Until the launch before, whose dependents were let begin, is over.
__device__ inline void await_prerequisites() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

}  // namespace sagelab::kernel
