// SPDX-License-Identifier: Apache-2.0
// Eight neighbouring elements as they lie in memory, moved in words of 16 bytes and computed on in fp32.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace sagelab::kernel {

constexpr int kVector = 8;

__device__ inline float to_float(float x) {
  return x;
}
__device__ inline float to_float(__half x) {
  return __half2float(x);
}
__device__ inline float to_float(__nv_bfloat16 x) {
  return __bfloat162float(x);
}
__device__ inline void from_float(float x, float& to) {
  to = x;
}
__device__ inline void from_float(float x, __half& to) {
  to = __float2half_rn(x);
}
__device__ inline void from_float(float x, __nv_bfloat16& to) {
  to = __float2bfloat16_rn(x);
}

template <class T>
struct alignas(16) Pack {
  T values[kVector];

  __device__ float operator[](int i) const { return to_float(values[i]); }
  __device__ void set(int i, float x) { from_float(x, values[i]); }
};

// element: a multiple of what 16 bytes hold.
template <class T>
__device__ Pack<T> load_pack(const void* base, int64_t element) {
  return *reinterpret_cast<const Pack<T>*>(static_cast<const T*>(base) + element);
}

template <class T>
__device__ void store_pack(void* base, int64_t element, const Pack<T>& pack) {
  *reinterpret_cast<Pack<T>*>(static_cast<T*>(base) + element) = pack;
}

}  // namespace sagelab::kernel
