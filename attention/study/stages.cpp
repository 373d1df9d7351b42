// SPDX-License-Identifier: Apache-2.0
#include "attention/study/stages.h"

#include <fmt/format.h>

#include "attention/registry.h"
#include "attention/sage2/layout.h"
#include "attention/study/stages/launch.h"

namespace sagelab::attention::study {
namespace {

constexpr int kHopper = 90;
constexpr double kLook = 30e-3;  // seconds

constexpr StageVariant kVariants[] = {
    {Variant::Whole, "the kernel as it is"},
    {Variant::NoScores, "without Q K^T"},
    {Variant::NoMaxima, "without row maxima"},
    {Variant::NoConversions, "without conversions to fp32"},
    {Variant::NoExponentials, "without exponentials"},
    {Variant::NoPacking, "without conversions to e4m3"},
    {Variant::NoValues, "without P V"},
    {Variant::NoSecondLevel, "without sums in fp32"},
};

}  // namespace

std::span<const StageVariant> stage_variants() {
  return kVariants;
}

std::string stages_unsupported(const at::Device& device) {
  if (!device.is_cuda()) return fmt::format("the kernel is Hopper's, and {} is none", device.str());
  if (std::string reason = stages_not_built(); !reason.empty()) return reason;
  const int capability = compute_capability(device);
  if (capability == 0) return fmt::format("there is no device {}", device.str());
  if (capability == kHopper) return {};
  return fmt::format("the kernel is Hopper's, of compute capability 9.0; {} has {}.{}", device.str(),
                     capability / 10, capability % 10);
}

std::function<void(Variant)> prepare_stages(const Call& call) {
  return launch_stages(call);
}

double clock_rate(const at::Device& device, const std::function<void()>& work) {
  return launch_clock_beside(device, work, kLook);
}

double tiles_per_processor(const Call& call) {
  const int64_t pairs = sage2::tiles(call.q.size(1), sage2::kQRows) *
                        sage2::tiles(call.k.size(1), sage2::kv_rows(sage2::Arch::Sm90)) * call.q.size(0) *
                        call.q.size(2);
  return double(pairs) / processors_of(call.q.device());
}

}  // namespace sagelab::attention::study
