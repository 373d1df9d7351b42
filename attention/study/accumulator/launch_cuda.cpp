// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "attention/study/accumulator/kernels.h"
#include "attention/study/accumulator/launch.h"

namespace sagelab::attention::study {

namespace {

const uint8_t* bytes_of(const at::Tensor& x) {
  return static_cast<const uint8_t*>(x.const_data_ptr());
}

}  // namespace

std::string accumulators_not_built() {
  return {};
}

at::Tensor launch_probe(Instruction instruction, const at::Tensor& d, uint32_t a, uint32_t b) {
  TORCH_CHECK(d.scalar_type() == at::kFloat && d.is_contiguous() && d.numel() % kProbeBlock == 0,
              "a probe takes a multiple of ", kProbeBlock, " fp32 values, not ", d.sizes());
  const c10::cuda::CUDAGuard guard(d.device());
  const cudaStream_t stream = c10::cuda::getCurrentCUDAStream();
  const at::Tensor out = at::empty_like(d);
  const ProbeParams params{d.const_data_ptr<float>(), out.data_ptr<float>(), d.numel(), a, b};
  C10_CUDA_CHECK(instruction == Instruction::WgmmaFp8 ? launch_probe_wgmma(params, stream)
                                                      : launch_probe_mma(instruction, params, stream));
  return out;
}

at::Tensor launch_product(Instruction instruction, const at::Tensor& p, const at::Tensor& v,
                          int64_t flush_keys) {
  const int64_t row_bytes = p.size(1) * p.element_size(), flush_bytes = flush_keys * p.element_size();
  TORCH_CHECK(p.is_contiguous() && v.is_contiguous() && p.size(0) % kProductRows == 0 &&
                  v.size(0) == kProductColumns && v.size(1) == p.size(1) &&
                  v.scalar_type() == p.scalar_type() && row_bytes % kStepBytes == 0 && flush_bytes > 0 &&
                  flush_bytes % kStepBytes == 0,
              "no product of ", p.sizes(), " and ", v.sizes(), " by ", flush_keys, " keys");
  const c10::cuda::CUDAGuard guard(p.device());
  const cudaStream_t stream = c10::cuda::getCurrentCUDAStream();
  const at::Tensor out = at::empty({p.size(0), v.size(0)}, p.options().dtype(at::kFloat));
  const ProductParams params{bytes_of(p),
                             bytes_of(v),
                             out.data_ptr<float>(),
                             p.size(0),
                             row_bytes / kStepBytes,
                             flush_bytes / kStepBytes};
  C10_CUDA_CHECK(instruction == Instruction::WgmmaFp8 ? launch_product_wgmma(params, stream)
                                                      : launch_product_mma(instruction, params, stream));
  return out;
}

}  // namespace sagelab::attention::study
