// SPDX-License-Identifier: Apache-2.0
#include "pipelines/core/linear/linear.h"

#include <ATen/ATen.h>

#ifdef SAGELAB_CUDA
#include <ATen/cuda/CUDAContext.h>

#include "pipelines/core/linear/cuda.h"
#endif

namespace sagelab {
namespace {

constexpr double kLargestE4m3 = 448;

// product(x, out) over matrices [rows, *] that make up x and out [B, S, *]: one where their batches lie one
// after the other, else one for each, so that rows and columns of larger tensors are read and written where
// they are.
template <class Product>
void by_matrix(const at::Tensor& x, const at::Tensor& out, const Product& product) {
  const auto dense = [](const at::Tensor& t) {
    return t.size(0) == 1 || t.stride(0) == t.size(1) * t.stride(1);
  };
  if (dense(x) && dense(out)) {
    const auto rows = [](const at::Tensor& t) {
      return t.as_strided({t.size(0) * t.size(1), t.size(2)}, {t.stride(1), t.stride(2)});
    };
    product(rows(x), rows(out));
    return;
  }
  for (int64_t i = 0; i < x.size(0); ++i) product(x.select(0, i), out.select(0, i));
}

// Whether the GPU multiplies e4m3 by e4m3 with a scale for each row, as this product would need it.
bool has_scaled_product(const Linear& linear, const at::Tensor& x) {
  constexpr int64_t kUnit = 16;
  if (linear.weight.size(0) % kUnit || linear.weight.size(1) % kUnit) return false;
  return multiplies_e4m3(x.device(), x.scalar_type());
}

void scaled_product_into(const Linear& linear, const at::Tensor& rows, at::Tensor out) {
  const QuantizedRows x = quantize_rows(rows);
  const at::Tensor weight = linear.weight.t(), scale = linear.scale.unsqueeze(0);
  if (out.is_contiguous())
    at::_scaled_mm_out(out, x.values, weight, x.scale, scale, linear.bias, {}, rows.scalar_type());
  else
    out.copy_(at::_scaled_mm(x.values, weight, x.scale, scale, linear.bias, {}, rows.scalar_type()));
}

}  // namespace

bool multiplies_e4m3(at::Device device, at::ScalarType dtype) {
#ifdef SAGELAB_CUDA
  if (!device.is_cuda() || dtype != at::kBFloat16) return false;
  const cudaDeviceProp& gpu = *at::cuda::getDeviceProperties(device.index());
  return gpu.major > 8 || (gpu.major == 8 && gpu.minor >= 9);
#else
  (void)device, (void)dtype;
  return false;
#endif
}

at::Tensor Linear::matrix(at::ScalarType dtype) const {
  if (!scale.defined()) return weight.to(dtype);
  // In fp32, as it was made: a half cannot hold every product.
  return weight.to(at::kFloat).mul_(scale.unsqueeze(1)).to(dtype);
}

// In the order of Linear::matrix.
int64_t widening_bytes(int64_t elements, at::ScalarType dtype) {
  return elements * int64_t(sizeof(float) + (dtype == at::kFloat ? 0 : c10::elementSize(dtype)));
}

at::Tensor Linear::operator()(const at::Tensor& x) const {
  if (!scale.defined()) return at::linear(x, weight, bias);
  if (!has_scaled_product(*this, x)) return at::linear(x, matrix(x.scalar_type()), bias);
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.back() = weight.size(0);
  const at::Tensor out = at::empty(sizes, x.options());
  scaled_product_into(*this, x.reshape({-1, x.size(-1)}), out.view({-1, sizes.back()}));
  return out;
}

void linear_into(const Linear& linear, const at::Tensor& x, const at::Tensor& out) {
  if (linear.scale.defined() && has_scaled_product(linear, x)) {
    by_matrix(x, out,
              [&](const at::Tensor& from, const at::Tensor& to) { scaled_product_into(linear, from, to); });
    return;
  }
  const at::Tensor weight = linear.matrix(x.scalar_type()).t();
  by_matrix(x, out, [&](const at::Tensor& from, at::Tensor to) {
    if (linear.bias.defined())
      at::addmm_out(to, linear.bias, from, weight);
    else
      at::mm_out(to, from, weight);
  });
}

// On CUDA the GELU rides on the matrix product (ATen's fused activation is the tanh one there, and only
// there), which writes whole rows alone: a copy costs less than passes for bias and GELU.
void linear_gelu_into(const Linear& linear, const at::Tensor& x, const at::Tensor& out) {
  if (!x.is_cuda() || !linear.bias.defined() || (linear.scale.defined() && has_scaled_product(linear, x))) {
    linear_into(linear, x, out);
    at::Tensor written = out;
    at::gelu_(written, "tanh");
    return;
  }
  const at::Tensor weight = linear.matrix(x.scalar_type()).t();
  by_matrix(x, out, [&](const at::Tensor& from, at::Tensor to) {
    if (to.is_contiguous())
      at::_addmm_activation_out(to, linear.bias, from, weight, 1, 1, /*use_gelu=*/true);
    else
      to.copy_(at::_addmm_activation(linear.bias, from, weight, 1, 1, /*use_gelu=*/true));
  });
}

QuantizedRows quantize_rows(const at::Tensor& x) {
#ifdef SAGELAB_CUDA
  QuantizedRows fast;
  if (quantize_rows_cuda(fast, x)) return fast;
#endif
  const at::Tensor largest = x.abs().amax(1, true).to(at::kFloat);
  const at::Tensor scale = at::where(largest == 0, 1.0F, largest / kLargestE4m3);
  return {(x / scale).clamp_(-kLargestE4m3, kLargestE4m3).to(at::kFloat8_e4m3fn), scale};
}

}  // namespace sagelab
