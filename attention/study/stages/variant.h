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
};

}  // namespace sagelab::attention::study
