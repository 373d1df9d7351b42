// SPDX-License-Identifier: Apache-2.0
// y = x W^T + b, with weights in the run's dtype or, as many checkpoints have them, in 8 bits.
#pragma once

#include <ATen/core/Tensor.h>

namespace sagelab {

struct Linear {
  at::Tensor weight, bias;  // [out, in]; [out] or undefined
  // Defined where weight is e4m3: each row of it stands for so many times its values. fp32 [out]. Such a
  // product is made of e4m3 alone, x rounded row by row, where the GPU can (Ada and later, bf16, sizes that
  // are multiples of 16); elsewhere the weight is widened for each call.
  at::Tensor scale;

  at::Tensor operator()(const at::Tensor& x) const;  // x [..., in]
  // The weight in this dtype: itself where it is that already.
  at::Tensor matrix(at::ScalarType dtype) const;
};

// Whether a product with a weight in e4m3 is made of e4m3 alone there, its sizes allowing.
bool multiplies_e4m3(at::Device device, at::ScalarType dtype);
// Bytes that a call takes to widen a weight of so many elements to dtype.
int64_t widening_bytes(int64_t elements, at::ScalarType dtype);

// out = linear(x), where x [B, S, in] and out [B, S, out] may be rows and columns of larger tensors.
void linear_into(const Linear& linear, const at::Tensor& x, const at::Tensor& out);
// out = GELU(linear(x)), the tanh one.
void linear_gelu_into(const Linear& linear, const at::Tensor& x, const at::Tensor& out);

// x [rows, n] in bf16 -> e4m3 [rows, n] and fp32 [rows, 1], so that q * scale is near x: each row's largest
// magnitude becomes 448. A row of zeros has the scale 1.
struct QuantizedRows {
  at::Tensor values, scale;
};
QuantizedRows quantize_rows(const at::Tensor& x);

}  // namespace sagelab
