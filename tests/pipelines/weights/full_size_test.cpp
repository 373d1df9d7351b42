// SPDX-License-Identifier: Apache-2.0
// What FLUX.1-dev at 1024 x 1024 takes with weights of 8 bits and with streamed blocks, of headers alone.
#include <gtest/gtest.h>

#include <map>

#include "pipelines/common/outlook.h"
#include "pipelines/common/prompts/encoders.h"
#include "pipelines/flux/pipeline.h"
#include "pipelines/flux/plan.h"
#include "tests/support/parity.h"

namespace sagelab::flux {
namespace {

constexpr int64_t kCard = 24'000'000'000;
// Of the released model, bf16: T5, CLIP-L, the transformer's 11,901,408,320 parameters.
constexpr double kT5 = 9.524e9, kClip = 0.246e9, kTransformer = 23.803e9;

std::string place(const std::string& name) {
  return testing::fixture("single_files_full", name).string();
}

Request request_of(const std::vector<std::string>& weights) {
  Request r;
  r.model = place("model");
  r.prompt = "a fox";
  r.width = r.height = 1024;
  r.dtype = "bf16";
  r.device = "cpu";
  r.vae_tiling = "on";
  r.offload = "encoders";
  r.weights = weights;
  return family().resolve(r);
}

std::map<std::string, double> peaks_of(const Request& request) {
  std::map<std::string, double> peaks;
  for (const auto& [phase, bytes] : peak_by_phase(Folder(request), request, kCard))
    peaks[phase] = double(bytes);
  return peaks;
}

TEST(FluxFullSize, Bf16DoesNotFitInTwentyFourGigabytesAndEightBitsDo) {
  const auto wide = peaks_of(request_of({}));
  EXPECT_GT(wide.at("denoise"), double(kCard));
  EXPECT_NEAR(wide.at("denoise"), kTransformer + 0.5e9, 0.3e9);
  // One encoder is freed before the other is loaded.
  EXPECT_NEAR(wide.at("encode"), kT5 + 0.15e9, 0.05e9);
  const auto eight = peaks_of(request_of({"transformer=" + place("transformer.safetensors")}));
  for (const auto& [phase, bytes] : eight) EXPECT_LT(bytes, double(kCard)) << phase;
  // Its matrices are all but a few thousandths of it; the rest and what the forward takes is under 1 GB.
  EXPECT_NEAR(eight.at("denoise"), kTransformer / 2 + 0.8e9, 0.4e9);
  EXPECT_EQ(eight.at("encode"), wide.at("encode"));
  // The transformer is freed before anything is decoded, which takes less.
  EXPECT_NEAR(wide.at("decode"), kTransformer, 0.01e9);
  EXPECT_LT(eight.at("decode"), eight.at("denoise"));
}

TEST(FluxFullSize, EncodersOfEightBits) {
  const std::string t5 = "text_encoder_2=" + place("t5.safetensors");
  const auto eight = peaks_of(request_of({t5, "transformer=" + place("transformer.safetensors")}));
  EXPECT_NEAR(eight.at("encode"), kT5 / 2 + 0.8e9, 0.1e9);
  Request kept = request_of({t5, "transformer=" + place("transformer.safetensors")});
  kept.offload = "none";
  const double more = peaks_of(kept).at("denoise") - eight.at("denoise");
  constexpr double kEmbedding = 32128 * 4096;  // widened, as it is no matrix of a product
  EXPECT_NEAR(more, kT5 / 2 + kEmbedding + kClip, 0.02e9);
}

// Two double blocks of 36 D^2 parameters and the little that is no block.
TEST(FluxFullSize, StreamedBlocksTakeTwoOfTheLargest) {
  const Request request = request_of({});
  const Components parts = Folder(request).components;
  const Target held{at::kCPU, at::kBFloat16}, streamed{at::kCPU, at::kBFloat16, true};
  const double block = 2 * 36 * 3072.0 * 3072.0;
  EXPECT_NEAR(double(parts.bytes("transformer", held)), kTransformer, 0.01e9);
  EXPECT_NEAR(double(parts.bytes("transformer", streamed)), 2 * block, 0.2e9);
  EXPECT_EQ(parts.bytes("vae", streamed), parts.bytes("vae", held));
}

TEST(FluxFullSize, WithoutAGpuLayersAreEncoders) {
  Request request = request_of({});
  const auto encoders = peaks_of(request);
  request.offload = "layers";
  EXPECT_EQ(peaks_of(request), encoders);
  EXPECT_FALSE(resolve_target(request).streamed);
}

TEST(FluxFullSize, EncodersThatStayAddUp) {
  const auto peak = [](const char* offload) {
    Request r;
    r.offload = offload;
    const EncoderBytes bytes = peak_of_encoders({{5, 1}, {3, 4}, {2, 2}}, r);
    return std::pair(bytes.weights, bytes.beside);
  };
  EXPECT_EQ(peak("none"), std::pair(int64_t(10), int64_t(4)));
  for (const char* freed : {"auto", "encoders", "layers"})
    EXPECT_EQ(peak(freed), std::pair(int64_t(3), int64_t(4))) << freed;
}

TEST(FluxFullSize, LayersAreStreamedWhereNothingElseFits) {
  const auto chosen = [](const char* device, int64_t encode, int64_t available) {
    Request r;
    r.device = device;
    r.vae_tiling = "off";
    const auto peaks = [&](const Request& asked) {
      const int64_t denoise = asked.offload == "none" ? 30 : asked.offload == "layers" ? 10 : 20;
      return Peaks{{"encode", encode}, {"denoise", denoise}, {"decode", 5}};
    };
    choose_for_memory(r, peaks, available);
    return r.offload;
  };
  EXPECT_EQ(chosen("cuda:0", 9, 30), "none");
  EXPECT_EQ(chosen("cuda:0", 9, 29), "encoders");
  EXPECT_EQ(chosen("cuda:0", 9, 20), "encoders");
  EXPECT_EQ(chosen("cuda:0", 9, 19), "layers");
  EXPECT_EQ(chosen("cuda:0", 9, 8), "layers") << "the least that it can take";
  EXPECT_EQ(chosen("cuda:0", 25, 24), "encoders") << "streaming would not help the encoders";
  EXPECT_EQ(chosen("cpu", 9, 19), "encoders");
}

}  // namespace
}  // namespace sagelab::flux
