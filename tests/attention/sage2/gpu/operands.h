// SPDX-License-Identifier: Apache-2.0
// Quantized operands against each other, and against sums in fp64.
#pragma once

#include "attention/sage2/quantized.h"
#include "tests/attention/sage2/gpu/device.h"

namespace sagelab::attention::sage2::test {

// What follows from the values and the means without any sum.
constexpr at::Tensor Quantized::*kExact[] = {&Quantized::q,       &Quantized::k,       &Quantized::v,
                                             &Quantized::q_scale, &Quantized::k_scale, &Quantized::v_scale,
                                             &Quantized::q_odd,   &Quantized::kv_odd};

std::string describe(const Settings& settings, const Call& call);
Quantized on_cpu(const Quantized& x);

// What the twin makes of wide (fp32 on the CPU) with the means of k, v and the tiles of q that `gpu` holds.
Quantized twin_with_means_of(const Quantized& gpu, const Call& wide, const Settings& settings);

// Which of kExact differ, and in how many elements; empty where none does.
std::string difference(const Quantized& actual, const Quantized& expected);
void expect_same_bits(const Quantized& actual, const Quantized& expected);

// Means, delta and q_shift of `gpu` against fp64.
void expect_sums(const Quantized& gpu, const Call& wide, const Settings& settings);
// |actual - mean of x over its tokens or the sampled ones| <= relative * mean |x|, per channel.
void expect_mean(const at::Tensor& actual, const at::Tensor& x, Mean mean, double relative);
// The same of V, where channels of a small mean keep it: against the twin's own, which it sums in fp64.
void expect_v_mean(const at::Tensor& actual, const Call& wide, const Settings& settings, double relative);

}  // namespace sagelab::attention::sage2::test
