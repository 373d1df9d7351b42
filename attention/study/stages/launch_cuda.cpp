// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <memory>

#include "attention/sage2/launch.h"
#include "attention/study/stages/kernels.h"
#include "attention/study/stages/launch.h"

namespace sagelab::attention::study {

std::string stages_not_built() {
  return {};
}

std::function<void(Variant)> launch_stages(const Call& call) {
  sage2::Settings settings;
  settings.sum = sage2::Sum::Matrix;
  const auto launch = call.q.size(3) > 64 ? launch_variant_dim128 : launch_variant_dim64;
  const auto variant = std::make_shared<Variant>();
  const auto work = sage2::prepare(call, settings, [launch, variant](const sage2::AttentionParams& params) {
    C10_CUDA_CHECK(launch(*variant, params, c10::cuda::getCurrentCUDAStream()));
  });
  return [variant, work](Variant which) {
    *variant = which;
    work();
  };
}

double launch_clock_beside(const at::Device& device, const std::function<void()>& work, double seconds) {
  const c10::cuda::CUDAGuard guard(device);
  const at::Tensor elapsed = at::zeros({2}, at::TensorOptions().device(device).dtype(at::kLong));
  const auto stream = c10::cuda::getStreamFromPool(/*isHighPriority=*/true, device.index());
  c10::cuda::getCurrentCUDAStream().synchronize();
  // First, since the work leaves no processor a register.
  C10_CUDA_CHECK(launch_clock(static_cast<Elapsed*>(elapsed.data_ptr()), uint64_t(seconds * 1e9), stream));
  work();
  stream.synchronize();
  const at::Tensor read = elapsed.cpu();
  return double(read[0].item<int64_t>()) * 1e9 / double(read[1].item<int64_t>());
}

int processors_of(const at::Device& device) {
  return at::cuda::getDeviceProperties(device.index())->multiProcessorCount;
}

}  // namespace sagelab::attention::study
