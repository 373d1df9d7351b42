// SPDX-License-Identifier: Apache-2.0
#include "pipelines/mochi/vae/bench.h"

#include <ATen/ATen.h>

#include "pipelines/common/weights/random_model.h"
#include "pipelines/mochi/vae/decoder.h"

namespace sagelab::mochi {
namespace {

constexpr int64_t kFrames = (163 - 1) / 6 + 1, kHeight = 480 / 8, kWidth = 848 / 8;  // of latents

}  // namespace

BenchVae bench_vae(const Target& target) {
  Config file(nlohmann::json::object(), "Mochi");
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

}  // namespace sagelab::mochi
