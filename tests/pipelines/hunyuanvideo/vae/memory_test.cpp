// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include "pipelines/hunyuanvideo/vae/decoder.h"
#include "tests/support/config_refusal.h"
#include "tests/support/memory_meter.h"

namespace sagelab::hunyuanvideo {
namespace {

VaeConfig config_from(const nlohmann::json& values) {
  return testing::parse<VaeConfig>(values, "vae/config.json");
}

// Small videos, where LibTorch unfolds inputs, and such as oneDNN takes; one tile and several.
TEST(HunyuanVideoVaeMemory, PredictsItsPeak) {
  const c10::InferenceMode inference;
  const VaeConfig config = config_from(
      {{"block_out_channels", {16, 16, 32, 32}}, {"layers_per_block", 1}, {"norm_num_groups", 8}});
  const Weights weights(random_source(1), {});
  const VaeDecoder vae(weights, config);
  weights.require_all_read();
  for (const Decoding& size : {Decoding{1, 6, 8}, {2, 12, 9}, {4, 10, 12}, {6, 8, 10}, {2, 34, 12, true}}) {
    const at::Tensor z = at::randn({1, 16, size.frames, size.height, size.width});
    const double measured = double(testing::peak_bytes_of([&] { vae.decode(z, {.tiled = size.tiled}); }));
    const double predicted = double(decode_peak_bytes(config, size, {at::kCPU, at::kFloat}));
    EXPECT_NEAR(predicted / measured, 1, 0.15)
        << size.frames << " x " << size.height << " x " << size.width << (size.tiled ? " tiled" : "")
        << ": predicted " << predicted << ", measured " << measured;
  }
}

TEST(HunyuanVideoVaeMemory, OfTheReleasedCheckpoint) {
  const VaeConfig config = config_from(nlohmann::json::object());
  const Target half{at::kCUDA, at::kHalf};
  const auto peak = [&](const Decoding& decoding, const Target& target) {
    return decode_peak_bytes(config, decoding, target);
  };
  const int64_t whole = peak({33, 90, 160}, half), tiled = peak({33, 90, 160, true}, half);
  std::printf("1280 x 720 x 129, fp16: %.2f GB in tiles of time, %.2f GB in tiles of space too\n",
              double(whole) / 1e9, double(tiled) / 1e9);
  // What `bench vae` measured on an H100, cuDNN's workspaces included.
  EXPECT_NEAR(double(whole), 27.27e9, .3e9);
  EXPECT_NEAR(double(tiled), 3.28e9, .03e9);
  EXPECT_EQ(peak({33, 90, 160}, {at::kCUDA, at::kFloat}), 2 * whole);
  // Time is cut: more frames are a longer video to hold, and nothing else.
  EXPECT_EQ(peak({65, 90, 160}, half) - whole, int64_t(32) * 4 * 3 * 720 * 1280 * 2);
  // A latent no larger than a tile is not cut.
  EXPECT_EQ(peak({4, 32, 32, true}, half), peak({4, 32, 32}, half));
}

}  // namespace
}  // namespace sagelab::hunyuanvideo
