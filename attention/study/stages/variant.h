// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace sagelab::attention::study {

enum class Variant {
  Whole,
  NoScores,        // Q K^T
  NoMaxima,        // all but the first of a row's
  NoConversions,   // of scores to fp32
  NoExponentials,  // what they are taken of stands in their place
  NoPacking,       // of P to e4m3
  NoValues,        // P V
  NoSecondLevel,   // its sum in fp32
  NoTurns,         // the two warpgroups issue products as they come to it
  Polynomial2,     // two of 16 exponentials by multiplications and additions
  Polynomial4,
  Polynomial6,
  Polynomial8,
  Halves,  // tiles of 64 keys: scores of the next beside the softmax of this one
  HalvesPolynomial2,
  HalvesPolynomial4,
  HalvesPolynomial6,
};

}  // namespace sagelab::attention::study
