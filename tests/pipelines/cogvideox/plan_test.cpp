// SPDX-License-Identifier: Apache-2.0
// Full-size folders with genuine headers and no data: what a plan says of them.
#include <gtest/gtest.h>

#include <map>

#include "pipelines/cogvideox/pipeline.h"
#include "pipelines/cogvideox/plan.h"
#include "pipelines/common/outlook.h"
#include "pipelines/registry.h"
#include "tests/support/parity.h"

namespace sagelab {
namespace {

namespace fs = std::filesystem;

struct Released {
  const char* name;
  int height, width, frames;
  std::vector<int64_t> latents;
  int64_t tokens, parameters;
  double tera_flops;  // one forward at batch 1
  double fps;
};

// models' published sizes; operations from layers, widths and tokens (12 D^2 weights and two S^2 D products a
// block).
const Released kReleased[] = {
    {"cogvideox_2b", 480, 720, 49, {1, 13, 16, 60, 90}, 17776, 1693783872, 120.0, 8},
    {"cogvideox_5b", 480, 720, 49, {1, 13, 16, 60, 90}, 17776, 5570283072, 332.2, 8},
    {"cogvideox_1.5", 768, 1360, 81, {1, 22, 16, 96, 170}, 45106, 5570676352, 1479.2, 16},
};
constexpr int64_t kTextEncoder = 4762310656, kVae = 215583907, kDecoder = 123368451;

class FullSize : public ::testing::TestWithParam<Released> {
 protected:
  fs::path folder = fs::path(SAGELAB_FIXTURES) / "full_size" / GetParam().name;
  Request request() const {
    Request r;
    r.model = folder.string();
    r.prompt = "a fox";
    r.device = "cpu";
    r.dtype = "bf16";
    r.offload = "encoders";
    r.vae_tiling = "on";
    r.height = GetParam().height;
    r.width = GetParam().width;
    return r;
  }
};

TEST_P(FullSize, PlanTellsTokensParametersAndOperations) {
  const Released& want = GetParam();
  const Family& family = family_of(folder);
  const Request resolved = family.resolve(request());
  EXPECT_EQ(*resolved.num_frames, want.frames);
  EXPECT_EQ(*resolved.steps, 50);
  EXPECT_EQ(*resolved.guidance_scale, 6);
  EXPECT_EQ(*resolved.fps, want.fps);
  const Plan plan = family.plan(resolved);
  EXPECT_EQ(plan.latent_shape, want.latents);
  EXPECT_EQ(plan.tokens, want.tokens);
  EXPECT_EQ(plan.text_tokens, 226);
  EXPECT_GT(plan.prompt_tokens, 1);
  EXPECT_LT(plan.prompt_tokens, 20);
  EXPECT_EQ(plan.forwards, 100);
  EXPECT_NEAR(plan.flops_per_forward / 1e12 / want.tera_flops, 1, 0.005);
  std::map<std::string, Plan::Component> parts;
  for (const auto& component : plan.components) parts[component.name] = component;
  EXPECT_EQ(parts["transformer"].parameters, want.parameters);
  EXPECT_EQ(parts["transformer"].bytes, 2 * want.parameters);
  EXPECT_EQ(parts["transformer"].file_bytes, 2 * want.parameters);
  EXPECT_EQ(parts["text_encoder"].parameters, kTextEncoder);
  EXPECT_EQ(parts["text_encoder"].bytes, 2 * kTextEncoder);
  EXPECT_EQ(parts["vae"].parameters, kVae);
  EXPECT_EQ(parts["vae"].bytes, 2 * kDecoder);  // the encoder stays unread
}

TEST_P(FullSize, PeaksHoldWhatMustBeThere) {
  const Family& family = family_of(folder);
  Request r = request();
  const Plan freeing = family.plan(family.resolve(r));
  r.offload = "none";
  const Plan keeping = family.plan(family.resolve(r));
  ASSERT_EQ(freeing.peak_by_phase.size(), 3u);
  EXPECT_EQ(freeing.peak_by_phase[0].first, "encode");
  EXPECT_EQ(freeing.peak_by_phase[1].first, "denoise");
  EXPECT_EQ(freeing.peak_by_phase[2].first, "decode");
  EXPECT_GE(freeing.peak_by_phase[0].second, 2 * kTextEncoder);
  EXPECT_GE(freeing.peak_by_phase[1].second, 2 * GetParam().parameters);
  EXPECT_EQ(keeping.peak_by_phase[1].second - freeing.peak_by_phase[1].second, 2 * kTextEncoder);
  EXPECT_GE(keeping.peak_bytes(), 2 * (kTextEncoder + GetParam().parameters));
  r.vae_tiling = "off";
  EXPECT_GT(family.plan(family.resolve(r)).peak_by_phase[2].second, keeping.peak_by_phase[2].second);
}

TEST_P(FullSize, HalfKeepsOneLinearOfT5Wide) {
  Request r = request();
  r.dtype = "fp16";
  const Family& family = family_of(folder);
  for (const auto& component : family.plan(family.resolve(r)).components) {
    if (component.name == "text_encoder") {
      const int64_t wo = 24LL * 4096 * 10240;
      EXPECT_EQ(component.bytes, 2 * kTextEncoder + 2 * wo);
    }
  }
}

int64_t peak_of(const std::vector<std::pair<std::string, int64_t>>& phases, const std::string& phase = "") {
  int64_t peak = 0;
  for (const auto& [name, bytes] : phases)
    if (phase.empty() || name == phase) peak = std::max(peak, bytes);
  return peak;
}

void choose(Request& r, const cogvideox::Folder& parts, int64_t available) {
  choose_for_memory(
      r, [&](const Request& asked) { return cogvideox::peak_by_phase(parts, asked, available); }, available);
}

// Each automatic choice at the last byte that still allows it, and at one byte less.
TEST_P(FullSize, AutomaticChoicesTurnAtTheirThresholds) {
  const Request given = family_of(folder).resolve(request());
  const cogvideox::Folder parts(given);
  const auto with = [&](const char* tiling, const char* offload) {
    Request r = given;
    r.vae_tiling = tiling, r.offload = offload;
    return r;
  };
  const auto chosen = [&](Request r, int64_t available) {
    choose(r, parts, available);
    return r.vae_tiling + ", " + r.offload;
  };
  const auto peak = [&](const char* tiling, const char* offload, const char* phase) {
    return peak_of(cogvideox::peak_by_phase(parts, with(tiling, offload), 0), phase);
  };
  const int64_t untiled = peak("off", "auto", "decode");  // beside nothing else
  for (const char* offload : {"encoders", "auto"}) {
    EXPECT_EQ(chosen(with("auto", offload), untiled).substr(0, 3), "off") << offload;
    EXPECT_EQ(chosen(with("auto", offload), untiled - 1).substr(0, 2), "on") << offload;
  }
  const int64_t untiled_kept = peak("off", "none", "decode");
  EXPECT_GT(untiled_kept, untiled);
  EXPECT_EQ(chosen(with("auto", "none"), untiled_kept), "off, none");
  EXPECT_EQ(chosen(with("auto", "none"), untiled_kept - 1), "on, none");
  for (const char* tiling : {"on", "off"}) {
    const int64_t kept = peak(tiling, "none", "");
    EXPECT_EQ(chosen(with(tiling, "auto"), kept), std::string(tiling) + ", none");
    EXPECT_EQ(chosen(with(tiling, "auto"), kept - 1), std::string(tiling) + ", encoders");
  }
  EXPECT_EQ(chosen(with("off", "none"), 0), "off, none");
  EXPECT_EQ(chosen(with("on", "encoders"), int64_t(1) << 60), "on, encoders");
}

// Where tiles are needed whatever is freed, the text encoder stays if the tiled run has room for it.
TEST_P(FullSize, OffloadIsDecidedForTheTilingThatRuns) {
  Request r = request();
  r.height = 3 * GetParam().height;
  r.width = std::min(2 * GetParam().width, 2400);  // 1.5 has positions for 300 latents
  r = family_of(folder).resolve(r);
  const cogvideox::Folder parts(r);
  r.offload = "none";
  const int64_t tiled = peak_of(cogvideox::peak_by_phase(parts, r, 0));
  r.vae_tiling = "off", r.offload = "encoders";
  ASSERT_GT(peak_of(cogvideox::peak_by_phase(parts, r, 0), "decode"), tiled);
  r.vae_tiling = r.offload = "auto";
  choose(r, parts, tiled);
  EXPECT_EQ(r.vae_tiling, "on");
  EXPECT_EQ(r.offload, "none");
}

INSTANTIATE_TEST_SUITE_P(CogVideoX, FullSize, ::testing::ValuesIn(kReleased), [](const auto& info) {
  std::string name = info.param.name;
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
});

}  // namespace
}  // namespace sagelab
