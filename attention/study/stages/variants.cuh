// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "attention/sage2/wgmma/attention.cuh"
#include "attention/study/stages/halves.cuh"
#include "attention/study/stages/kernels.h"

namespace sagelab::attention::study {

template <int kDim>
using Whole = hopper::Config<kDim, sage2::VScale::Channel, sage2::Sum::Matrix>;

template <int kDim, hopper::Parts kParts>
struct Without : Whole<kDim> {
  static constexpr hopper::Parts kHas = kParts;
};

template <int kDim>
struct WithoutExponentials : Whole<kDim> {
  static __device__ float exponential(int, float x) { return x; }
};

// 2^x for x <= 127, 2^-126 below -126, within 1.8e-3 of it: Cody and Waite's reduction, then the polynomial
// of least relative error on [-1/2, 1/2]. As one block: of C++ the compiler makes branches, and the products
// of a tile then wait for each other.
__device__ inline float exp2_polynomial(float x) {
  float y;
  asm("{\n.reg .f32 clamped, shifted, whole, rest, power;\n.reg .b32 bits, exponent;\n"
      "mov.b32 bits, %1;\n"
      "min.u32 bits, bits, 0xc2fc0000;\n"  // -126: as unsigned words negative numbers grow downwards
      "mov.b32 clamped, bits;\n"
      "add.f32 shifted, clamped, 0f4B400000;\n"  // 1.5 * 2^23: the sum's last bit is a whole number
      "add.f32 whole, shifted, 0fCB400000;\n"
      "sub.f32 rest, clamped, whole;\n"
      "fma.rn.f32 power, rest, %2, %3;\n"
      "fma.rn.f32 power, power, rest, %4;\n"
      "mov.b32 exponent, shifted;\n"
      "shl.b32 exponent, exponent, 23;\n"
      "mov.b32 bits, power;\n"
      "add.s32 bits, bits, exponent;\n"
      "mov.b32 %0, bits;\n}"
      : "=f"(y)
      : "f"(x), "f"(.238428935f), "f"(.703447998f), "f"(1.000443101f));
  return y;
}

// kOf16 of 16 exponentials by a polynomial, spread over them.
template <int kDim, int kOf16>
struct Polynomial : Whole<kDim> {
  static __device__ float exponential(int i, float x) {
    return i * kOf16 % 16 < kOf16 ? exp2_polynomial(x) : hopper::exp2_approx(x);
  }
};

template <class C>
cudaError_t launch_halves(const sage2::AttentionParams& p, cudaStream_t stream) {
  return hopper::launch<C, HalfConsumer<C>>(p, stream);
}

template <int kDim>
cudaError_t launch_variant(Variant variant, const sage2::AttentionParams& p, cudaStream_t stream) {
  switch (variant) {
    case Variant::Whole:
      return hopper::launch<Whole<kDim>>(p, stream);
    case Variant::NoScores:
      return hopper::launch<Without<kDim, hopper::Parts{.scores = false}>>(p, stream);
    case Variant::NoMaxima:
      return hopper::launch<Without<kDim, hopper::Parts{.maxima = false}>>(p, stream);
    case Variant::NoConversions:
      return hopper::launch<Without<kDim, hopper::Parts{.conversions = false}>>(p, stream);
    case Variant::NoExponentials:
      return hopper::launch<WithoutExponentials<kDim>>(p, stream);
    case Variant::NoPacking:
      return hopper::launch<Without<kDim, hopper::Parts{.packing = false}>>(p, stream);
    case Variant::NoValues:
      return hopper::launch<Without<kDim, hopper::Parts{.values = false}>>(p, stream);
    case Variant::NoSecondLevel:
      return hopper::launch<Without<kDim, hopper::Parts{.second_level = false}>>(p, stream);
    case Variant::NoTurns:
      return hopper::launch<Without<kDim, hopper::Parts{.turns = false}>>(p, stream);
    case Variant::Polynomial2:
      return hopper::launch<Polynomial<kDim, 2>>(p, stream);
    case Variant::Polynomial4:
      return hopper::launch<Polynomial<kDim, 4>>(p, stream);
    case Variant::Polynomial6:
      return hopper::launch<Polynomial<kDim, 6>>(p, stream);
    case Variant::Polynomial8:
      return hopper::launch<Polynomial<kDim, 8>>(p, stream);
    case Variant::Halves:
      return launch_halves<Whole<kDim>>(p, stream);
    case Variant::HalvesPolynomial2:
      return launch_halves<Polynomial<kDim, 2>>(p, stream);
    case Variant::HalvesPolynomial4:
      return launch_halves<Polynomial<kDim, 4>>(p, stream);
    case Variant::HalvesPolynomial6:
      return launch_halves<Polynomial<kDim, 6>>(p, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace sagelab::attention::study
