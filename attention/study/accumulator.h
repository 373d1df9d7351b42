// SPDX-License-Identifier: Apache-2.0
// What the accumulators of FP8 matrix instructions keep. Their type is fp32 by name; arXiv 2411.10958 finds
// 22 bits in it, and adds up in fp32 proper every few keys instead. Here both are measured: the bits of an
// accumulator that come back from one instruction, and the error of P V by how often it is emptied.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <string_view>
#include <vector>

#include "attention/study/accumulator/instruction.h"

namespace sagelab::attention::study {

// "wgmma m64n64k32 e4m3"
std::string_view name_of(Instruction instruction);
// Keys that one instruction sums over.
int64_t keys_of(Instruction instruction);
// Why nothing can be measured on a device; empty if it can.
std::string accumulators_unsupported(const at::Device& device);
// Those of a device: 16-bit ones for comparison, then those of FP8.
std::vector<Instruction> instructions_of(const at::Device& device);

// What results keep of exact ones.
struct Kept {
  int bits = 0;  // of the mantissa, as far as any result has one set
  // (|result| - |exact|) over what the last of these bits is worth: 0 to 0 where nothing is lost, above -1 to
  // 0 where the rest is cut off, -1/2 to 1/2 where it is rounded.
  double lowest = 0, highest = 0;

  bool exact() const { return lowest == 0 && highest == 0; }
  std::string_view rest() const;  // "nothing lost", "cut off", "rounded", "other"
};
// result fp32, exact fp64, normal numbers, of equal shapes on the CPU.
Kept kept_of(const at::Tensor& result, const at::Tensor& exact);

// D = A B + D by one instruction, D of random signs with all 23 bits of the mantissa in use and A B the same
// everywhere; 0 lets a chip skip the work. Every sum is an fp32 number.
struct Probe {
  Instruction instruction{};
  double product = 0;
  Kept kept;
};
constexpr double kProducts[] = {0, 0x1p-18, 0x1p-2};
constexpr int64_t kProbes = 1 << 16;
Probe probe(Instruction instruction, double product, const at::Device& device);

// The operands of P V as a kernel has them, exactly representable in fp16 too.
struct Operands {
  at::Tensor p;  // e4m3 [kQueries, keys]: a row of a softmax of N(0, 1) scores, its largest at 448
  at::Tensor v;  // e4m3 [kChannels, keys]: N(0, 1), each channel's largest at 448
};
constexpr int64_t kQueries = 256, kChannels = 64;
// The same numbers on every machine. keys: a multiple of 32.
Operands draw_operands(int64_t keys, const at::Device& device);
// P V^T [kQueries, kChannels] fp32: in the accumulator over flush_keys keys, a multiple of keys_of, then in
// fp32.
at::Tensor multiply(Instruction instruction, const Operands& x, int64_t flush_keys);
// Distance over size, both in the L2 norm, to the product in fp64.
double relative_error(const at::Tensor& product, const Operands& x);

}  // namespace sagelab::attention::study
