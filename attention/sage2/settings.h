// SPDX-License-Identifier: Apache-2.0
// What a `sage2(...)` spec chooses. SageAttention2: Zhang et al., ICML 2025 (arXiv 2411.10958).
#pragma once

#include <string>

namespace sagelab::attention {

class Arguments;

namespace sage2 {

// Whose instructions: mma.sync of Ampere and of Ada, wgmma of Hopper. It decides tile sizes and scale groups.
enum class Arch { Sm80, Sm89, Sm90 };
enum class Qk { Int8, Int4 };
// The product of probabilities and V. Fp8: two-level accumulation in fp32. Fp8Half: FP16 accumulator, V
// within 2.25 (SageAttention2++, arXiv 2505.21136).
enum class Pv { Fp16, Fp8, Fp8Half };
// The vector subtracted from every row of K or V. Any vector leaves the result unchanged, up to rounding:
// Full is the mean over all tokens, as in the paper; Sampled the mean over one token in kSampleStride,
// jittered. Of V a channel is left as it is where its mean is small (kSmallMean).
enum class Mean { Off, Full, Sampled };
// Scales of V: per channel, from all tokens as in the paper; per channel and tile of keys; per channel, from
// sampled tokens with room above (kVMargin), which e4m3 has to spare, and from all tokens in heads where that
// is not enough.
enum class VScale { Channel, Tile, Sampled };
// The row sum of the probabilities: in fp32 before they are rounded, or of the rounded ones by the tensor
// cores.
enum class Sum { Fp32, Matrix };

// As in the paper; what a spec leaves out is read_settings' choice.
struct Settings {
  Arch arch = Arch::Sm90;
  Qk qk = Qk::Int8;
  Pv pv = Pv::Fp8;
  Mean smooth_k = Mean::Full;
  Mean smooth_v = Mean::Off;
  bool smooth_q = false;  // per tile of 128 queries, with its own term added back; only with Int4
  VScale v = VScale::Channel;
  Sum sum = Sum::Fp32;

  bool operator==(const Settings&) const = default;
};

// Keys: arch=sm80|sm89|sm90, qk=int8|int4, pv=fp16|fp8|fp8half, mean=full|sampled|off (of K),
// smooth_v=off|full|sampled, smooth_q=on|off, v=channel|tile|sampled, sum=fp32|matrix. What is not given
// follows from the rest (mean=sampled; int4: smooth_q=on; sm80: pv=fp16; fp8: v=sampled, smooth_v=sampled,
// with v=channel smooth_v=full; sm90: sum=matrix; int4 on sm90: arch=sm89). Throws sagelab::Error for
// combinations that no kernel has. native: the arch of the machine, taken where the spec names none.
Settings read_settings(Arguments& arguments, Arch native);
// The canonical spec: "sage2", or with the keys that differ from the defaults of this arch:
// "sage2(arch=sm80,qk=int4)".
// name_arch: also where it is what a plain spec means on Hopper and on the CPU.
std::string to_string(const Settings& settings, bool name_arch = false);

}  // namespace sage2
}  // namespace sagelab::attention
