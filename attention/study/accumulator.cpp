// SPDX-License-Identifier: Apache-2.0
#include "attention/study/accumulator.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Float8_e4m3fn.h>
#include <c10/util/Half.h>
#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <random>

#include "attention/registry.h"
#include "attention/study/accumulator/launch.h"

namespace sagelab::attention::study {

namespace {

constexpr int kMantissa = 23, kLowest = 89;

uint32_t bits_of(Instruction instruction, float x) {
  switch (instruction) {
    case Instruction::MmaFp16:
      return c10::Half(x).x;
    case Instruction::MmaBf16:
      return c10::BFloat16(x).x;
    case Instruction::MmaFp8:
    case Instruction::WgmmaFp8:
      return c10::Float8_e4m3fn(x).x;
  }
  TORCH_CHECK(false, "no such instruction: ", int(instruction));
}

at::ScalarType type_of(Instruction instruction) {
  if (instruction == Instruction::MmaFp16) return at::kHalf;
  return instruction == Instruction::MmaBf16 ? at::kBFloat16 : at::kFloat8_e4m3fn;
}

// |D| from 1.26 to 1.7: adding or taking 1/4 stays between 1 and 2, so the sum needs no bit more.
at::Tensor draw_accumulators() {
  at::Tensor d = at::empty({kProbes}, at::kFloat);
  std::mt19937 random(0);
  constexpr uint32_t kFrom = uint32_t(.26 * (1 << kMantissa)), kTo = uint32_t(.7 * (1 << kMantissa));
  for (int64_t i = 0; i < kProbes; ++i) {
    const uint32_t mantissa = (kFrom + random() % (kTo - kFrom)) | 1, sign = random() % 2;
    d.data_ptr<float>()[i] = std::bit_cast<float>(sign << 31 | 127u << kMantissa | mantissa);
  }
  return d;
}

// Rows of x, their largest absolute value at 448.
at::Tensor filled(const at::Tensor& x) {
  return (x * (448 / x.abs().amax(1, true))).clamp(-448, 448).to(at::kFloat8_e4m3fn);
}

}  // namespace

std::string_view name_of(Instruction instruction) {
  switch (instruction) {
    case Instruction::MmaFp16:
      return "mma.sync m16n8k16 f16";
    case Instruction::MmaBf16:
      return "mma.sync m16n8k16 bf16";
    case Instruction::MmaFp8:
      return "mma.sync m16n8k32 e4m3";
    case Instruction::WgmmaFp8:
      return "wgmma m64n64k32 e4m3";
  }
  TORCH_CHECK(false, "no such instruction: ", int(instruction));
}

int64_t keys_of(Instruction instruction) {
  return type_of(instruction) == at::kFloat8_e4m3fn ? 32 : 16;
}

std::string accumulators_unsupported(const at::Device& device) {
  if (!device.is_cuda())
    return fmt::format("FP8 accumulators are those of NVIDIA GPUs from compute capability 8.9 on, not of {}",
                       device.str());
  if (std::string reason = accumulators_not_built(); !reason.empty()) return reason;
  const int capability = compute_capability(device);
  if (capability == 0) return fmt::format("there is no device {}", device.str());
  if (capability >= kLowest) return {};
  return fmt::format("FP8 accumulators come with compute capability 8.9, {} has {}.{}", device.str(),
                     capability / 10, capability % 10);
}

std::vector<Instruction> instructions_of(const at::Device& device) {
  std::vector<Instruction> all{Instruction::MmaFp16, Instruction::MmaBf16, Instruction::MmaFp8};
  if (compute_capability(device) == 90) all.push_back(Instruction::WgmmaFp8);
  return all;
}

std::string_view Kept::rest() const {
  if (exact()) return "nothing lost";
  if (lowest >= -.5 && highest <= .5) return "rounded";
  return lowest > -1 && highest <= 0 ? "cut off" : "other";
}

Kept kept_of(const at::Tensor& result, const at::Tensor& exact) {
  TORCH_CHECK(result.scalar_type() == at::kFloat && exact.scalar_type() == at::kDouble &&
                  result.numel() == exact.numel() && result.is_contiguous() && exact.is_contiguous(),
              "kept_of: ", result.sizes(), " and ", exact.sizes());
  const float* x = result.const_data_ptr<float>();
  const double* y = exact.const_data_ptr<double>();
  Kept kept;
  for (int64_t i = 0; i < result.numel(); ++i) {
    const uint32_t mantissa = std::bit_cast<uint32_t>(x[i]) & ((1u << kMantissa) - 1);
    if (mantissa != 0) kept.bits = std::max(kept.bits, kMantissa - std::countr_zero(mantissa));
  }
  for (int64_t i = 0; i < result.numel(); ++i) {
    const double unit = std::ldexp(1., std::ilogb(y[i]) - kept.bits);
    const double off = (std::fabs(double(x[i])) - std::fabs(y[i])) / unit;
    kept.lowest = std::min(kept.lowest, off), kept.highest = std::max(kept.highest, off);
  }
  return kept;
}

Probe probe(Instruction instruction, double product, const at::Device& device) {
  const float a = float(std::sqrt(product));  // of an even power of two
  const uint32_t bits = bits_of(instruction, a);
  const at::Tensor d = draw_accumulators();
  const at::Tensor result = launch_probe(instruction, d.to(device), bits, bits).to(at::kCPU);
  return {instruction, product, kept_of(result, d.to(at::kDouble) + product)};
}

Operands draw_operands(int64_t keys, const at::Device& device) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(uint64_t(keys));
  const at::Tensor scores = at::randn({kQueries, keys}, generator, at::kFloat);
  const at::Tensor v = at::randn({kChannels, keys}, generator, at::kFloat);
  return {filled((scores - scores.amax(1, true)).exp()).to(device), filled(v).to(device)};
}

at::Tensor multiply(Instruction instruction, const Operands& x, int64_t flush_keys) {
  const auto as = [&](const at::Tensor& t) { return t.to(type_of(instruction)); };
  return launch_product(instruction, as(x.p), as(x.v), flush_keys);
}

double relative_error(const at::Tensor& product, const Operands& x) {
  // By way of fp32: not every device converts FP8 to fp64.
  const auto wide = [](const at::Tensor& t) { return t.to(at::kFloat).to(at::kDouble); };
  const at::Tensor exact = at::matmul(wide(x.p), wide(x.v).t());
  return (at::norm(product.to(at::kDouble) - exact) / at::norm(exact)).item<double>();
}

}  // namespace sagelab::attention::study
