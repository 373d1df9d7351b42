// SPDX-License-Identifier: Apache-2.0
// Launching a kernel that wants much shared memory, or to begin beside the launch before.
#pragma once

#include <cuda_runtime.h>

namespace sagelab::kernel {

struct Geometry {
  dim3 grid, block;
  int shared = 0;       // bytes, dynamic
  bool beside = false;  // may begin as soon as the launch before lets it (let_dependents_begin)
  int cluster = 1;      // blocks, on multiprocessors that reach each other's shared memory
};

template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), const Geometry& g, cudaStream_t stream,
                   const Arguments&... arguments) {
  // Of the current device, hence each time.
  if (const cudaError_t status =
          cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, g.shared);
      status != cudaSuccess)
    return status;
  cudaLaunchAttribute attributes[2]{};
  unsigned count = 0;
  if (g.beside) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (g.cluster > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count++].val.clusterDim = {unsigned(g.cluster), 1, 1};
  }
  cudaLaunchConfig_t config{};
  config.gridDim = g.grid, config.blockDim = g.block;
  config.dynamicSmemBytes = size_t(g.shared), config.stream = stream;
  config.attrs = attributes, config.numAttrs = count;
  return cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...);
}

// Of the current device; 0 where that cannot be told.
inline int device_attribute(cudaDeviceAttr which) {
  int device = 0, value = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return 0;
  if (cudaDeviceGetAttribute(&value, which, device) != cudaSuccess) return 0;
  return value;
}
inline int processors() {
  return device_attribute(cudaDevAttrMultiProcessorCount);
}
// Bytes of shared memory that a block may have.
inline int most_shared() {
  return device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
}

}  // namespace sagelab::kernel
