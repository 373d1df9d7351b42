// SPDX-License-Identifier: Apache-2.0
#include "pipelines/image/bench.h"

#include <ATen/ATen.h>

#include "pipelines/common/weights/random_model.h"
#include "pipelines/image/autoencoder_kl.h"

namespace sagelab {
namespace {

constexpr int64_t kSide = 1024 / 8;  // of latents

}  // namespace

BenchVae bench_picture_vae(const Target& target) {
  Config file(nlohmann::json{{"latent_channels", 16},
                             {"block_out_channels", {128, 256, 512, 512}},
                             {"up_block_types", std::vector<std::string>(4, "UpDecoderBlock2D")},
                             {"layers_per_block", 2},
                             {"sample_size", 1024},
                             {"use_post_quant_conv", false}},
              "AutoencoderKL");
  const AutoencoderKLConfig config(file);
  const auto vae = random_model<AutoencoderKL>(config, target);
  RandomInputs drawn(target);
  const at::Tensor z = drawn({1, config.latent_channels, kSide, kSide});
  BenchVae bench;
  bench.decode = [=](bool tiled) { return vae->decode(z, {.tiled = tiled}); };
  bench.peak_bytes = [=](bool tiled) { return decode_peak_bytes(config, {1, kSide, kSide, tiled}, target); };
  bench.latent_shape = z.sizes().vec();
  return bench;
}

}  // namespace sagelab
