// SPDX-License-Identifier: Apache-2.0
#include "pipelines/hunyuanvideo/bench.h"

#include <ATen/ATen.h>

#include <memory>

#include "pipelines/common/weights/random_model.h"
#include "pipelines/hunyuanvideo/transformer.h"

namespace sagelab::hunyuanvideo {
namespace {

// diffusers' __call__ defaults, in latents: the VAE keeps one frame and each four that follow, of 8 x 8
// pixels.
constexpr int64_t kFrames = (129 - 1) / 4 + 1, kHeight = 720 / 8, kWidth = 1280 / 8;
constexpr int64_t kTextLength = 256;
constexpr double kGuidance = 6;

}  // namespace

BenchModel bench(const Target& target) {
  Config config(nlohmann::json::object(), "HunyuanVideo");
  const TransformerConfig c(config);
  const auto model = random_model<Transformer>(c, target);
  RandomInputs drawn(target);
  const auto all = [&](double value) {
    return at::full({1}, value, at::TensorOptions(at::kFloat).device(target.device));
  };
  Inputs in{drawn({1, c.in_channels, kFrames, kHeight, kWidth}),
            drawn({1, kTextLength, c.text_embed_dim}),
            at::full({1}, kTextLength, at::kLong),
            drawn({1, c.pooled_projection_dim}),
            all(500),
            all(kGuidance),
            {}};
  const Grid grid = grid_of(c, in.latents);
  in.rope = rope_table(c, grid, kTextLength, target.device);

  BenchModel result;
  result.forward = [=](const Forward& forward) { return (*model)(in, forward); };
  result.latent_shape = in.latents.sizes().vec();
  result.tokens = grid.tokens() + kTextLength;
  result.flops = flops(c, grid.tokens(), kTextLength);
  return result;
}

}  // namespace sagelab::hunyuanvideo
