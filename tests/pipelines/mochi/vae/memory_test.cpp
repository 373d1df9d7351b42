// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include "pipelines/mochi/vae/decoder.h"
#include "tests/support/config_refusal.h"
#include "tests/support/memory_meter.h"

namespace sagelab::mochi {
namespace {

VaeConfig config_from(const nlohmann::json& values) {
  return testing::parse<VaeConfig>(values, "vae/config.json");
}

// Small videos, where LibTorch unfolds inputs, and such as oneDNN takes; one chunk and several; whole and
// tiled.
TEST(MochiVaeMemory, PredictsItsPeak) {
  const c10::InferenceMode inference;
  const VaeConfig config = config_from({{"decoder_block_out_channels", {32, 64, 96}},
                                        {"layers_per_block", {1, 1, 2, 1}},
                                        {"temporal_expansions", {1, 2}},
                                        {"spatial_expansions", {2, 2}}});
  const Weights weights(random_source(1), {});
  const VaeDecoder vae(weights, config);
  weights.require_all_read();
  const TileSizes tiles{64, 48, 48, 32};
  for (const Decoding& size : {Decoding{1, 8, 6}, {2, 20, 9}, {3, 12, 16}, {5, 20, 14}, {4, 5, 7}}) {
    for (const bool tiled : {false, true}) {
      Decoding decoding = size;
      decoding.tiled = tiled;
      decoding.tile_sizes = tiles;
      const at::Tensor z = at::randn({1, 12, size.frames, size.height, size.width});
      const double measured =
          double(testing::peak_bytes_of([&] { vae.decode(z, {.tiled = tiled, .tile_sizes = tiles}); }));
      const double predicted = double(decode_peak_bytes(config, decoding, {at::kCPU, at::kFloat}));
      EXPECT_NEAR(predicted / measured, 1, 0.15)
          << size.frames << " x " << size.height << " x " << size.width << (tiled ? " tiled" : "")
          << ": predicted " << predicted << ", measured " << measured;
    }
  }
}

TEST(MochiVaeMemory, OfTheReleasedCheckpoint) {
  const VaeConfig config = config_from(nlohmann::json::object());
  const Target half{at::kCUDA, at::kBFloat16};
  const auto peak = [&](const Decoding& decoding, const Target& target) {
    return decode_peak_bytes(config, decoding, target);
  };
  const int64_t whole = peak({28, 60, 106}, half), tiled = peak({28, 60, 106, true}, half);
  std::printf("480 x 848 x 163, bf16: %.2f GB whole, %.2f GB tiled\n", double(whole) / 1e9,
              double(tiled) / 1e9);
  // What `bench vae` measured on an H100, cuDNN's workspaces included.
  EXPECT_NEAR(double(whole), 9.81e9, .1e9);
  EXPECT_NEAR(double(tiled), 2.07e9, .02e9);
  EXPECT_EQ(peak({28, 60, 106}, {at::kCUDA, at::kFloat}), 2 * whole);
  // Time is cut: twice the frames are another video to hold, and nothing else.
  const int64_t frame = 3 * 480 * 848 * 2;
  EXPECT_EQ(peak({56, 60, 106}, half) - whole, 28 * 6 * frame);
  // A latent no larger than a tile is not cut.
  EXPECT_EQ(peak({4, 32, 32, true}, half), peak({4, 32, 32}, half));
}

}  // namespace
}  // namespace sagelab::mochi
