// SPDX-License-Identifier: Apache-2.0
// Sizes of one instance of the mma.sync kernel, and how its shared memory is divided.
#pragma once

#include "attention/sage2/kernels.h"
#include "attention/sage2/mma/fragments.h"

namespace sagelab::attention::sage2::mma {

constexpr float kLog2e = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;
constexpr float kLowest = -3.402823466e38f;

template <Qk kQk, Pv kPv, int kD>
struct Shape {
  static constexpr bool kInt4 = kQk == Qk::Int4;
  static constexpr bool kFp8 = kPv != Pv::Fp16;
  static constexpr bool kHalfSums = kPv == Pv::Fp8Half;
  static constexpr int kDim = kD;
  static constexpr int kQkBytes = kInt4 ? kD / 2 : kD;  // of a row of Q or K
  static constexpr int kVBytes = kFp8 ? kKeys : kKeys * 2;
  static constexpr int kQkSteps = kQkBytes / kStepBytes;
  static constexpr int kPvSteps = kVBytes / kStepBytes;
  static constexpr bool kQInRegisters = kD == 64;  // with 128 channels the result leaves no room
  static constexpr int kQSteps = kQInRegisters ? kQkSteps : 1;

  static constexpr int kQTile = kQRows * kQkBytes;
  static constexpr int kKTile = kKeys * kQkBytes;
  static constexpr int kVTile = kD * kVBytes;
  static constexpr int kDelta = kInt4 ? kKeys * 4 : 0;  // bytes: delta of the tile's keys, behind K
  static constexpr int kVScales = kFp8 ? kD * 4 : 0;    // bytes: the tile's scales of V, behind V
  static constexpr int kKStage = kKTile + kDelta;
  static constexpr int kVStage = kVTile + kVScales;
  // Two stages of K always; of V as well where two blocks then still fit into the 100 KB of sm_86 and sm_89,
  // of which 1 KB goes with each block.
  static constexpr int kMost = 100 * 1024 / 2 - 1024;
  static constexpr int kVStages = kQTile + 2 * kKStage + 2 * kVStage <= kMost ? 2 : 1;
  static constexpr int kK = kQTile;
  static constexpr int kV = kK + 2 * kKStage;
  static constexpr int kBytes = kV + kVStages * kVStage;
  static_assert(kBytes <= kMost && kBytes >= kWarps * 16 * kD * 2);

  // P is at most this: its largest value in e4m3. It multiplies the row sum too, and cancels.
  static constexpr float kLog2P = kFp8 ? 8.807354922057604f : 0.f;
};

}  // namespace sagelab::attention::sage2::mma
