// SPDX-License-Identifier: Apache-2.0
#include "pipelines/common/joint/ends.h"

#include <ATen/ATen.h>

#include <string_view>
#include <vector>

#include "pipelines/common/joint/blocks.h"
#include "pipelines/core/modulate/modulate.h"

namespace sagelab {
namespace {

constexpr int64_t kTimeWaves = 256;         // in no config
enum LastChunk { kLastScale, kLastShift };  // of the last norm's linear: not in the order of the blocks'

}  // namespace

ConditionEmbedder::ConditionEmbedder(const Weights& w, int64_t dim, int64_t pooled_channels, bool guided) {
  const auto embedder = [&](std::string_view name, int64_t in) {
    return TimestepEmbedding(w / name, in, dim, dim, Activation::Silu);
  };
  timestep_ = embedder("timestep_embedder", kTimeWaves);
  if (guided) guidance_ = embedder("guidance_embedder", kTimeWaves);
  text_ = embedder("text_embedder", pooled_channels);
}

at::Tensor ConditionEmbedder::operator()(const at::Tensor& t, const at::Tensor& guidance,
                                         const at::Tensor& pooled) const {
  const auto waves = [&](const at::Tensor& x) {
    return sinusoid(x.to(pooled.device()), kTimeWaves, true, 0).to(pooled.scalar_type());
  };
  const at::Tensor temb = timestep_(waves(t));
  if (guidance.defined()) temb.add_(guidance_(waves(guidance)));
  return temb.add_(text_(pooled));
}

double multiply_adds_of_condition(int64_t dim, int64_t pooled_channels, bool guided) {
  const double d = double(dim);
  return (guided ? 2 : 1) * (double(kTimeWaves) + d) * d + (double(pooled_channels) + d) * d;
}

OutputProjection::OutputProjection(const Weights& w, int64_t dim, int64_t channels)
    : norm_((w / "norm_out").linear("linear", 2 * dim, dim)), proj_(w.linear("proj_out", channels, dim)) {}

at::Tensor OutputProjection::operator()(const at::Tensor& rows, const at::Tensor& conditioning) const {
  const std::vector<at::Tensor> chunks = norm_(conditioning).chunk(2, 1);
  const Modulation all{0, rows.size(1), chunks[kLastShift], chunks[kLastScale]};
  return proj_(norm_modulate(rows, plain_norm(), {&all, 1}));
}

}  // namespace sagelab
