// SPDX-License-Identifier: Apache-2.0
#include "attention/study/stages/kernels.h"

namespace sagelab::attention::study {
namespace {

__device__ uint64_t now() {
  uint64_t nanoseconds;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(nanoseconds));
  return nanoseconds;
}

// The timer moves in steps: both looks wait for one.
__device__ uint64_t next_step() {
  const uint64_t before = now();
  uint64_t after;
  do after = now();
  while (after == before);
  return after;
}

__global__ void clock_kernel(Elapsed* elapsed, uint64_t nanoseconds) {
  const uint64_t start = next_step(), ticks = clock64();
  uint64_t end;
  do {
    __nanosleep(1000);
    end = next_step();
  } while (end - start < nanoseconds);
  *elapsed = {clock64() - ticks, end - start};
}

}  // namespace

cudaError_t launch_clock(Elapsed* elapsed, uint64_t nanoseconds, cudaStream_t stream) {
  clock_kernel<<<1, 1, 0, stream>>>(elapsed, nanoseconds);
  return cudaGetLastError();
}

}  // namespace sagelab::attention::study
