// SPDX-License-Identifier: Apache-2.0
#include "pipelines/hunyuanvideo/vae/bench.h"

#include <ATen/ATen.h>

#include "pipelines/common/weights/random_model.h"
#include "pipelines/hunyuanvideo/vae/decoder.h"

namespace sagelab::hunyuanvideo {
namespace {

constexpr int64_t kFrames = (129 - 1) / 4 + 1, kHeight = 720 / 8, kWidth = 1280 / 8;  // of latents

}  // namespace

BenchVae bench_vae(const Target& target) {
  Config file(nlohmann::json::object(), "HunyuanVideo");
  const VaeConfig config(file);
  const auto vae = random_model<VaeDecoder>(config, target);
  RandomInputs drawn(target);
  const at::Tensor z = drawn({1, config.latent_channels, kFrames, kHeight, kWidth});
  BenchVae bench;
  bench.decode = [=](bool tiled) { return vae->decode(z, {.tiled = tiled}); };
  bench.peak_bytes = [=](bool tiled) {
    return decode_peak_bytes(config, {kFrames, kHeight, kWidth, tiled}, target);
  };
  bench.latent_shape = z.sizes().vec();
  return bench;
}

}  // namespace sagelab::hunyuanvideo
