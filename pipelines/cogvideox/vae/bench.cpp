// SPDX-License-Identifier: Apache-2.0
#include "pipelines/cogvideox/vae/bench.h"

#include <ATen/ATen.h>

#include "pipelines/cogvideox/vae/decoder.h"
#include "pipelines/common/weights/random_model.h"

namespace sagelab::cogvideox {

BenchVae bench_vae(const Decoding& latents, const Target& target) {
  Config file(nlohmann::json::object(), "CogVideoX");
  const VaeConfig config(file);
  const auto vae = random_model<VaeDecoder>(config, target);
  RandomInputs drawn(target);
  const at::Tensor z = drawn({1, config.latent_channels, latents.frames, latents.height, latents.width});
  BenchVae bench;
  bench.decode = [=](bool tiled) { return vae->decode(z, tiled); };
  bench.peak_bytes = [=](bool tiled) {
    return decode_peak_bytes(config, {latents.frames, latents.height, latents.width, tiled}, target);
  };
  bench.latent_shape = z.sizes().vec();
  return bench;
}

}  // namespace sagelab::cogvideox
