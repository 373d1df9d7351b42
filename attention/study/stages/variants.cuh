// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "attention/sage2/wgmma/attention.cuh"
#include "attention/study/stages/kernels.h"

namespace sagelab::attention::study {

namespace hopper = sage2::hopper;

template <int kDim>
using Whole = hopper::Config<kDim, sage2::VScale::Channel, sage2::Sum::Matrix>;

template <int kDim, hopper::Parts kParts>
struct Without : Whole<kDim> {
  static constexpr hopper::Parts kHas = kParts;
};

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
      return hopper::launch<Without<kDim, hopper::Parts{.exponentials = false}>>(p, stream);
    case Variant::NoPacking:
      return hopper::launch<Without<kDim, hopper::Parts{.packing = false}>>(p, stream);
    case Variant::NoValues:
      return hopper::launch<Without<kDim, hopper::Parts{.values = false}>>(p, stream);
    case Variant::NoSecondLevel:
      return hopper::launch<Without<kDim, hopper::Parts{.second_level = false}>>(p, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace sagelab::attention::study
