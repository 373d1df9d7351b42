// SPDX-License-Identifier: Apache-2.0
#include "app/commands/bench/vae.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <chrono>
#include <limits>
#include <thread>

#include "attention/error.h"
#include "pipelines/footprint.h"
#include "pipelines/registry.h"

namespace sagelab {
namespace {

constexpr int64_t kValues = 1 << 20;
constexpr double kSlack = 4096;  // bytes of what sets one value, and of threads that end
constexpr auto kTime = std::chrono::milliseconds(20);

// Takes twice what it gives, half of it where it is cut in tiles.
BenchVae fake_vae(float value = .5f) {
  BenchVae vae;
  vae.latent_shape = {1, 4, 8, 8};
  vae.decode = [value](bool tiled) {
    const auto inside = at::zeros({tiled ? kValues / 2 : kValues});
    std::this_thread::sleep_for(kTime);
    auto frames = at::zeros({1, 1, kValues});
    frames[0][0][kValues - 1] = value;
    return frames;
  };
  vae.peak_bytes = [](bool tiled) { return (kValues + (tiled ? kValues / 2 : kValues)) * 4; };
  return vae;
}

TEST(BenchVaeTest, TimesAndSaysThePeakBesideWhatIsForetold) {
  count_cpu_tensors();
  const auto vae = fake_vae();
  std::vector<VaeRow> rows;
  for (const bool tiled : {false, true}) {
    rows.push_back(bench_vae(vae, {.tiled = tiled, .device = at::kCPU, .warmup = 1, .repeat = 3}));
    const auto& row = rows.back();
    EXPECT_NEAR(double(row.peak), double(row.foretold), kSlack);
    EXPECT_EQ(row.frames, (std::vector<int64_t>{1, 1, kValues}));
    EXPECT_GE(row.min, std::chrono::duration<double>(kTime).count());
    EXPECT_LE(row.min, row.median);
    EXPECT_LE(row.median, row.max);
  }
  EXPECT_LT(rows[1].peak, rows[0].peak);
  const auto json = vae_json(vae, rows);
  EXPECT_EQ(json["rows"][1]["tiling"], "on");
  EXPECT_EQ(json["rows"][1]["peak_bytes"], rows[1].peak);
  EXPECT_EQ(json["rows"][1]["predicted_peak_bytes"], rows[1].foretold);
  EXPECT_EQ(json["latent_shape"], (std::vector<int64_t>{1, 4, 8, 8}));
  EXPECT_THAT(vae_table(vae, rows), ::testing::HasSubstr("latents [1, 4, 8, 8], frames [1, 1, 1048576]"));
}

TEST(BenchVaeTest, RefusesWhatIsNotFinite) {
  const auto vae = fake_vae(std::numeric_limits<float>::infinity());
  EXPECT_THROW(bench_vae(vae, {}), Error);
}

// Made, not run: they are of full size.
TEST(BenchVaeTest, EveryFamilyHasItsReleasedDecoder) {
  for (const Family& family : families()) {
    SCOPED_TRACE(family.name);
    const auto vae = family.bench_vae(family.variants.front(), {at::kMeta, at::kBFloat16});
    ASSERT_GE(vae.latent_shape.size(), 4u);
    EXPECT_GT(vae.peak_bytes(true), 0);
    EXPECT_GE(vae.peak_bytes(false), vae.peak_bytes(true));
  }
}

}  // namespace
}  // namespace sagelab
