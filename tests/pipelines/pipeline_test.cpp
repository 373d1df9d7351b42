// SPDX-License-Identifier: Apache-2.0
// The one loop, over a pipeline that only counts.
#include "pipelines/pipeline.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <limits>
#include <thread>

#include "attention/error.h"
#include "pipelines/core/safetensors.h"
#include "pipelines/registry.h"
#include "tests/support/no_sampler.h"

namespace sagelab {
namespace {

namespace fs = std::filesystem;

// Serves nothing; has a name.
struct NamedBackend : attention::Backend {
  explicit NamedBackend(std::string n) : text(std::move(n)) {}
  std::string name() const override { return text; }
  std::string unsupported(const attention::Problem&) const override { return {}; }
  attention::Output run(const attention::Call&, attention::Recorder&) const override { return {}; }
  std::string text;
};

struct FakePipeline : Pipeline {
  std::function<void(int, const Forward&)> on_predict = [](int, const Forward&) {};
  std::function<void()> on_decode = [] {}, on_encode = [] {};
  std::function<std::unique_ptr<Sampler>()> sampler = [] { return std::make_unique<testing::NoSampler>(); };
  float last = 0;  // what advance adds in the end
  std::vector<attention::Site> sites;
  bool inference = true;

  Conditioning encode(const Request&, const RunContext& run) override {
    on_encode();
    inference = inference && c10::InferenceMode::is_enabled();
    run.notice("a notice");
    Conditioning c;
    c.embeds = at::zeros({1, 1, 1});
    c.guided = true;
    return c;
  }
  std::unique_ptr<State> prepare(const Request& request, Conditioning conditioning,
                                 const RunContext& run) override {
    Loading loading(run);
    loading.progress()(1, 4);
    loading.progress()(4, 4);
    auto state = std::make_unique<State>();
    state->latents = at::zeros({1, 2, 3});
    state->conditioning = std::move(conditioning);
    state->sampler = sampler();
    state->steps = request.steps.value();
    return state;
  }
  at::Tensor predict(const State& state, int i, const Forward& forward) override {
    sites.push_back(forward.site);
    on_predict(i, forward);
    return at::ones_like(state.latents);
  }
  void advance(State& state, int i, const at::Tensor& prediction) override {
    state.latents = state.latents + prediction + (i + 1 == state.steps ? last : 0);
  }
  at::Tensor preview(const State&, const at::Tensor& latents) override {
    return at::full({2, 3, 4, 4}, latents.max().item<float>() / 20);
  }
  at::Tensor decode(const at::Tensor&, const Request&, const RunContext&) override {
    on_decode();
    return at::zeros({1, 3, 2, 2});
  }
};

struct Loop : ::testing::Test {
  FakePipeline pipeline;
  Request request;
  std::shared_ptr<attention::Selector> selector =
      std::make_shared<attention::Selector>(std::make_shared<NamedBackend>("first"));
  attention::Recorder recorder;
  std::stop_source stop;
  std::vector<std::string> said;
  fs::path folder = fs::path(::testing::TempDir()) / "sagelab_pipeline_test";

  Loop() {
    request.device = "cpu";
    request.steps = 4;
    fs::create_directories(folder);
  }
  ~Loop() override { fs::remove_all(folder); }

  RunContext context() {
    return {selector, recorder, stop.get_token(), [this](decltype(Progress::what) what) {
              if (const auto* p = std::get_if<Phase>(&what))
                said.push_back(fmt::format("{} {}/{}", p->name, p->i, p->n));
              if (const auto* s = std::get_if<Step>(&what))
                said.push_back(
                    fmt::format("step {}/{} {}{}", s->i, s->n, s->backend, s->preview ? " preview" : ""));
            }};
  }
  std::string failure(const std::string& latents = {}) {
    try {
      generate(pipeline, request, latents, context());
    } catch (const Cancelled&) {
      return "cancelled";
    } catch (const Error& e) {
      return std::string(e.what()) + " | " + e.hint();
    }
    return "no error";
  }
};

TEST_F(Loop, SaysPhasesAndStepsInOrder) {
  request.preview = 2;
  const Result result = generate(pipeline, request, "", context());
  EXPECT_EQ(said,
            (std::vector<std::string>{"encode 0/1", "encode 1/1", "denoise 0/1", "load 1/4", "load 4/4",
                                      "step 1/4 first", "step 2/4 first preview", "step 3/4 first",
                                      "step 4/4 first preview", "denoise 1/1", "decode 0/1", "decode 1/1"}));
  EXPECT_EQ(result.notices, std::vector<std::string>{"a notice"});
  EXPECT_TRUE(pipeline.inference);
  EXPECT_FALSE(c10::InferenceMode::is_enabled());
}

TEST_F(Loop, WithoutCleanLatentsOnlyThePreviewIsLost) {
  struct NoCleanLatents : testing::NoSampler {
    at::Tensor denoised(const at::Tensor&, int, const at::Tensor&) const override {
      throw Error("there are none");
    }
  };
  pipeline.sampler = [] { return std::make_unique<NoCleanLatents>(); };
  request.preview = 2;
  const Result result = generate(pipeline, request, "", context());
  EXPECT_TRUE(result.picture);
  EXPECT_THAT(said, ::testing::Contains("step 4/4 first"));
  EXPECT_THAT(result.notices, ::testing::Contains("no preview: there are none"));
}

TEST_F(Loop, APreviewIsOfWhatTheStepLeadsTo) {
  request.preview = 1;
  std::vector<int> seen;
  RunContext run = context();
  run.progress = [&](decltype(Progress::what) what) {
    if (const auto* step = std::get_if<Step>(&what)) seen.push_back(step->preview->pixels.at(0));
  };
  generate(pipeline, request, "", run);
  // Latents of 0, 1, 2, 3 before the steps, and nine more: n / 20 in [-1, 1], as 8 bits.
  EXPECT_EQ(seen, (std::vector<int>{185, 191, 198, 204}));
}

TEST_F(Loop, TellsEachForwardWhereItIs) {
  generate(pipeline, request, "", context());
  ASSERT_EQ(pipeline.sites.size(), 4u);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(pipeline.sites[i].step, i);
    EXPECT_EQ(pipeline.sites[i].steps, 4);
    EXPECT_EQ(pipeline.sites[i].branch, attention::Branch::Both);
  }
}

TEST_F(Loop, CountsSecondsByPhaseAndStep) {
  using namespace std::chrono_literals;
  pipeline.on_predict = [](int i, const Forward&) { std::this_thread::sleep_for(i == 2 ? 60ms : 0ms); };
  pipeline.on_decode = [] { std::this_thread::sleep_for(30ms); };
  const Timings t = generate(pipeline, request, "", context()).timings;
  ASSERT_EQ(t.steps.size(), 4u);
  EXPECT_GE(t.steps[2].seconds, 0.06);
  EXPECT_GE(t.denoise, 0.06);
  EXPECT_GE(t.decode, 0.03);
  EXPECT_GE(t.total, t.load + t.encode + t.denoise + t.decode);
}

TEST_F(Loop, LoadingIsNotDenoising) {
  using namespace std::chrono_literals;
  struct Slow : FakePipeline {
    std::unique_ptr<State> prepare(const Request& r, Conditioning c, const RunContext& run) override {
      Loading loading(run);
      std::this_thread::sleep_for(250ms);
      return FakePipeline::prepare(r, std::move(c), run);
    }
  } slow;
  const Timings t = generate(slow, request, "", context()).timings;
  EXPECT_GE(t.load, 0.25);
  EXPECT_LT(t.denoise, t.load);
}

TEST_F(Loop, SwitchWaitsForTheNextForward) {
  std::vector<std::string> inside;
  pipeline.on_predict = [&](int i, const Forward& forward) {
    if (i == 1) selector->set(std::make_shared<NamedBackend>("second"));
    inside.push_back(forward.attention.name());
  };
  const Timings t = generate(pipeline, request, "", context()).timings;
  EXPECT_EQ(inside, (std::vector<std::string>{"first", "first", "second", "second"}));
  EXPECT_EQ(t.steps[1].backend, "first");
  EXPECT_EQ(t.steps[2].backend, "second");
}

TEST_F(Loop, SwitchPerCallIsImmediate) {
  request.attention_switch = "call";
  std::vector<std::string> inside;
  pipeline.on_predict = [&](int i, const Forward& forward) {
    if (i == 1) selector->set(std::make_shared<NamedBackend>("second"));
    inside.push_back(forward.attention.name());
  };
  const Timings t = generate(pipeline, request, "", context()).timings;
  EXPECT_EQ(inside, (std::vector<std::string>{"first", "second", "second", "second"}));
  EXPECT_EQ(t.steps[1].backend, "first -> second");
}

// Whoever serves: switching, and what is said of it, is as without a capture.
TEST_F(Loop, ACaptureSeesChosenStepsAndSwitchingIsAsWithoutIt) {
  for (const std::string mode : {"forward", "call"}) {
    request.attention_switch = mode;
    selector->set(std::make_shared<NamedBackend>("first"));
    std::vector<std::string> inside;
    std::vector<int> seen;
    pipeline.on_predict = [&](int i, const Forward& forward) {
      if (i == 1) selector->set(std::make_shared<NamedBackend>("second"));
      inside.push_back(forward.attention.name());
      attention::Call call;
      call.site = forward.site;
      forward.attention.run(call, forward.recorder);
    };
    const attention::Capturing capturing{
        {{0, 0}}, {{1, 2}}, [&](const attention::Captured& c) { seen.push_back(c.site.step); }};
    RunContext run = context();
    run.capture = &capturing;
    const Timings t = generate(pipeline, request, "", run).timings;
    const bool per_call = mode == "call";
    EXPECT_EQ(inside, (std::vector<std::string>{"first", per_call ? "second" : "first", "second", "second"}));
    EXPECT_EQ(t.steps[1].backend, per_call ? "first -> second" : "first");
    EXPECT_EQ(seen, (std::vector<int>{1, 2}));
  }
}

TEST_F(Loop, CancelsBetweenAndInsideSteps) {
  pipeline.on_predict = [&](int i, const Forward&) {
    if (i == 1) stop.request_stop();
  };
  EXPECT_EQ(failure((folder / "l.safetensors").string()), "cancelled");
  EXPECT_EQ(pipeline.sites.size(), 2u);
  EXPECT_EQ(said.back(), "step 1/4 first");  // the second step did not finish
  EXPECT_FALSE(fs::exists(folder / "l.safetensors"));
}

TEST_F(Loop, HandsTheStopTokenToTheForward) {
  pipeline.on_predict = [&](int, const Forward& forward) {
    stop.request_stop();
    if (forward.stop.stop_requested()) throw Cancelled();
    ADD_FAILURE() << "the forward did not see the stop";
  };
  EXPECT_EQ(failure(), "cancelled");
}

TEST_F(Loop, CancelsWhileLoading) {
  pipeline.on_encode = [&] { stop.request_stop(); };
  EXPECT_EQ(failure(), "cancelled");
  EXPECT_TRUE(pipeline.sites.empty());
}

TEST_F(Loop, LatentsAreOnDiskBeforeDecoding) {
  const std::string file = (folder / "l.safetensors").string();
  request.prompt = "a fox";
  bool there = false;
  pipeline.on_decode = [&] { there = fs::exists(file); };
  const Result result = generate(pipeline, request, file, context());
  EXPECT_TRUE(there);
  const SafetensorsFile stored(file);
  EXPECT_TRUE(at::equal(stored.tensor("latents"), at::full({1, 2, 3}, 4.0f)));
  EXPECT_TRUE(at::equal(stored.tensor("latents"), result.latents));
  EXPECT_EQ(request_of_latents(file).prompt, "a fox");
  said.clear();
  const Result again = decode_latents(pipeline, request, file, context());
  EXPECT_EQ(said, (std::vector<std::string>{"decode 0/1", "decode 1/1"}));
  EXPECT_EQ(again.picture->pixels, result.picture->pixels);
}

TEST_F(Loop, FailedDecodingSaysWhereTheLatentsAre) {
  const std::string file = (folder / "l.safetensors").string();
  pipeline.on_decode = [] { throw Error("the vae is broken", "mend it"); };
  EXPECT_EQ(failure(file), "the vae is broken | mend it; the finished latents are in " + file);
  pipeline.on_decode = [] { throw Error("the vae is broken"); };
  EXPECT_EQ(failure(file), "the vae is broken | the finished latents are in " + file);
  pipeline.on_decode = [] { TORCH_CHECK(false, "shapes [1] and [2]"); };
  EXPECT_EQ(failure(file), "decoding failed: shapes [1] and [2] | the finished latents are in " + file);
  EXPECT_TRUE(fs::exists(file));
}

TEST_F(Loop, OutOfMemorySaysWhereAndHowMuch) {
  pipeline.on_predict = [](int, const Forward&) {
    C10_THROW_ERROR(OutOfMemoryError, "CUDA out of memory. Tried to allocate 20.00 GiB.\nmore");
  };
  EXPECT_THAT(
      failure(),
      ::testing::MatchesRegex(
          "out of memory in denoise on cpu: [0-9.]+ (bytes|kB|MB|GB) of [0-9.]+ [MG]B were held at the "
          "peak, 20.00 GiB more were asked for . ask for fewer frames or a smaller size, --vae-tiling "
          "on, --offload encoders or layers, or --dtype bf16"));
}

TEST_F(Loop, LatentsThatAreNotFiniteAreAnError) {
  request.dtype = "fp16";
  pipeline.last = std::numeric_limits<float>::infinity();
  EXPECT_EQ(
      failure(),
      "the finished latents hold values that are not finite (dtype fp16) | the checkpoint overflows in this "
      "dtype: run it in its own (--dtype auto) or in fp32");
}

TEST(ToPicture, RoundsAsDiffusersDoes) {
  // Values that land between two levels: half to even, after clamping, in fp32.
  const at::Tensor levels = at::arange(0, 256, at::kFloat);
  const at::Tensor video = ((levels + 0.5) / 255 * 2 - 1).view({1, 1, 16, 16}).expand({2, 3, 16, 16});
  const Picture picture = to_picture(video);
  EXPECT_EQ(picture.frames, 2);
  EXPECT_EQ(picture.height, 16);
  EXPECT_EQ(picture.width, 16);
  const at::Tensor want =
      (video.mul(0.5).add(0.5).clamp(0, 1).mul(255)).round().permute({0, 2, 3, 1}).contiguous();
  for (int64_t i = 0; i < want.numel(); ++i)
    ASSERT_EQ(picture.pixels[i], uint8_t(want.data_ptr<float>()[i])) << i;
  EXPECT_EQ(to_picture(at::full({1, 3, 1, 1}, 5.0)).pixels, (std::vector<uint8_t>{255, 255, 255}));
  EXPECT_EQ(to_picture(at::full({1, 3, 1, 1}, -5.0)).pixels, (std::vector<uint8_t>{0, 0, 0}));
  EXPECT_EQ(to_picture(at::zeros({1, 3, 1, 1})).pixels[0], 128);                    // 127.5 to even
  EXPECT_EQ(to_picture(at::full({1, 3, 1, 1}, 126.5 / 127.5 - 1)).pixels[0], 126);  // 126.5 to even
}

TEST(ToPicture, RoundsInTheDecodedTypeFirst) {
  const at::Tensor video = at::linspace(-1, 1, 300, at::kFloat).to(at::kBFloat16).view({1, 3, 10, 10});
  const at::Tensor unit = (video * 0.5 + 0.5).clamp(0, 1);
  const at::Tensor want = (unit.to(at::kFloat) * 255).round().permute({0, 2, 3, 1}).contiguous();
  const Picture picture = to_picture(video);
  for (int64_t i = 0; i < want.numel(); ++i)
    ASSERT_EQ(picture.pixels[i], uint8_t(want.data_ptr<float>()[i])) << i;
}

}  // namespace
}  // namespace sagelab
