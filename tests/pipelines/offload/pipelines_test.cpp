// SPDX-License-Identifier: Apache-2.0
// A whole run with --offload layers is one without it, on either device, and takes less of a GPU.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "pipelines/core/config.h"
#include "tests/support/pictures/runs.h"

namespace sagelab {
namespace {

struct Place {
  const char* fixtures;
  const char* name;
};

void PrintTo(const Place& place, std::ostream* out) {
  *out << place.fixtures << "/" << place.name;
}

class OffloadOfLayers : public ::testing::TestWithParam<Place> {
 protected:
  std::filesystem::path folder() const { return testing::fixture(GetParam().fixtures, GetParam().name); }
  const Family& family() const { return family_of(folder() / "model"); }
  Request request_of(const std::string& device, const std::string& offload) const {
    const nlohmann::json spec = read_json(folder() / "request.json");
    Request r;
    r.model = (folder() / "model").string();
    r.prompt = spec["prompt"];
    r.height = spec["height"].get<int>();
    r.width = spec["width"].get<int>();
    if (spec.contains("num_frames")) r.num_frames = spec["num_frames"].get<int>();
    r.steps = 3;
    r.vae_tiling = "off";
    r.device = device;
    r.offload = offload;
    return family().resolve(r);
  }
  Result run(const Request& request, const std::string& spec = "sdpa") const {
    testing::OneRun one(spec);
    const auto pipeline = family().open(request, one.context);
    return generate(*pipeline, request, "", one.context);
  }
  static int64_t peak_of(const std::vector<std::pair<std::string, int64_t>>& peaks,
                         const std::string& phase) {
    for (const auto& [name, bytes] : peaks)
      if (name == phase) return bytes;
    return 0;
  }
};

TEST_P(OffloadOfLayers, TheSamePicture) {
  for (const char* device : {"cpu", "cuda"}) {
    if (std::string(device) == "cuda" && !at::hasCUDA()) continue;
    const Request none = request_of(device, "none"), layers = request_of(device, "layers");
    EXPECT_EQ(layers.offload, "layers");
    const Result expected = run(none), ours = run(layers);
    EXPECT_TRUE(at::equal(ours.latents, expected.latents)) << device;
    EXPECT_EQ(ours.picture->pixels, expected.picture->pixels) << device;
  }
}

TEST_P(OffloadOfLayers, ASecondRunOfTheSamePipeline) {
  const char* device = at::hasCUDA() ? "cuda" : "cpu";
  Request request = request_of(device, "layers");
  testing::OneRun one;
  const auto pipeline = family().open(request, one.context);
  const Result first = generate(*pipeline, request, "", one.context);
  one.context.attention->set(attention::make_backend("reference"));
  generate(*pipeline, request, "", one.context);
  one.context.attention->set(attention::make_backend("sdpa"));
  const Result again = generate(*pipeline, request, "", one.context);
  EXPECT_TRUE(at::equal(first.latents, again.latents));
}

TEST_P(OffloadOfLayers, AGpuHoldsTwoBlocksInPlaceOfAll) {
  if (!at::hasCUDA()) GTEST_SKIP() << "no CUDA device";
  const Request encoders = request_of("cuda", "encoders"), layers = request_of("cuda", "layers");
  if (family().plan(layers).layers <= 2) GTEST_SKIP() << "two blocks are all of this model";
  const auto planned = [&](const Request& r) { return peak_of(family().plan(r).peak_by_phase, "denoise"); };
  const int64_t before = tensor_bytes({at::kCUDA, 0});
  const int64_t saved =
      peak_of(run(encoders).peak_by_phase, "denoise") - peak_of(run(layers).peak_by_phase, "denoise");
  EXPECT_EQ(tensor_bytes({at::kCUDA, 0}), before) << "all of it is given back";
  EXPECT_GT(planned(encoders), planned(layers));
  EXPECT_GT(saved, 0);
}

INSTANTIATE_TEST_SUITE_P(Families, OffloadOfLayers,
                         ::testing::Values(Place{"flux_pipelines", "dev"}, Place{"flux_pipelines", "schnell"},
                                           Place{"sd3_pipelines", "large"}, Place{"mochi_pipelines", "cut"},
                                           Place{"hunyuanvideo_pipelines", "cut"}, Place{"cogvideox", "2b"},
                                           Place{"cogvideox", "1.5"}, Place{"cogvideox", "5b"}),
                         [](const auto& info) {
                           std::string name = fmt::format("{}_{}", info.param.fixtures, info.param.name);
                           std::replace(name.begin(), name.end(), '.', '_');
                           return name;
                         });

}  // namespace
}  // namespace sagelab
