// SPDX-License-Identifier: Apache-2.0
#include "pipelines/core/stream/host_memory.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <sys/mman.h>

#include <cstdlib>
#include <memory>

#include "attention/error.h"
#include "pipelines/core/memory.h"

#ifdef SAGELAB_CUDA
#include <cuda_runtime_api.h>
#endif

namespace sagelab {
namespace {

constexpr const char* kLess = "free memory, or use --offload encoders";

void pin(void* memory, size_t size) {
#ifdef SAGELAB_CUDA
  const cudaError_t error = cudaHostRegister(memory, size, cudaHostRegisterPortable);
  if (error == cudaSuccess) return;
  (void)cudaGetLastError();  // else the next launch would report it
  const char* reason = cudaGetErrorString(error);
#else
  (void)memory;
  const char* reason = "this build has no CUDA";
#endif
  throw Error(fmt::format("{} of host memory cannot be pinned: {}", human_bytes(int64_t(size)), reason),
              kLess);
}

void unpin(void* memory) {
#ifdef SAGELAB_CUDA
  if (cudaHostUnregister(memory) != cudaSuccess) (void)cudaGetLastError();
#else
  (void)memory;
#endif
}

}  // namespace

at::Tensor host_bytes(int64_t size, bool pinned) {
  constexpr size_t kHugePage = size_t(2) << 20, kPage = 4096;
  // Whole pages: what shares one with other memory cannot be pinned by itself.
  const size_t page = size_t(size) >= kHugePage ? kHugePage : kPage;
  const size_t taken = (std::max<size_t>(size_t(size), 1) + page - 1) / page * page;
  std::unique_ptr<void, decltype(&std::free)> memory(std::aligned_alloc(page, taken), std::free);
  if (!memory)
    throw Error(fmt::format("out of memory: {} of host memory were asked for", human_bytes(size)), kLess);
  ::madvise(memory.get(), taken, MADV_HUGEPAGE);  // the system may decline
  if (pinned) pin(memory.get(), taken);
  const auto free = [pinned](void* p) {
    if (pinned) unpin(p);
    std::free(p);
  };
  return at::from_blob(memory.release(), {size}, free, at::TensorOptions(at::kByte));
}

}  // namespace sagelab
