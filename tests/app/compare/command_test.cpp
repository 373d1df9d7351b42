// SPDX-License-Identifier: Apache-2.0
// The real binary: `compare` and `demo` on a genuine folder.
#include <gmock/gmock.h>
#include <signal.h>

#include <regex>
#include <thread>

#include "app/compare/metrics.h"
#include "app/compare/report.h"
#include "app/failure.h"
#include "tests/app/cli/end_to_end.h"
#include "tests/app/cli/read_frames.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;
using ::testing::HasSubstr;
using ::testing::StartsWith;

#ifdef SAGELAB_FFMPEG
const std::string kVideo = ".mp4";
#else
const std::string kVideo;
#endif

class CompareCommand : public EndToEnd {
 protected:
  ProgramResult compare(std::vector<std::string> more) const {
    auto all = generate(std::move(more));
    all[0] = "compare";
    return run_sagelab(all);
  }
  std::set<std::string> names(const std::string& folder) const {
    std::set<std::string> all;
    for (const auto& entry : fs::directory_iterator(folder_ / folder))
      all.insert(entry.path().filename().string());
    return all;
  }
  json report(const std::string& folder) const {
    return json::parse(read_file(folder_ / folder / "report.json"));
  }
  // Refused, and nothing is left behind.
  void fails(std::vector<std::string> more, int exit_code, const std::string& message) const {
    const auto before = folder_.names();
    const auto result = compare(std::move(more));
    EXPECT_EQ(result.exit_code, exit_code);
    EXPECT_EQ(result.err, "sagelab: " + message + "\n");
    EXPECT_EQ(folder_.names(), before);
  }
};

// A page on its own: what it shows lies in itself.
void expect_self_contained(const std::string& html, size_t videos, size_t images) {
  const std::regex source("(src|href|poster|data)=\"([^\"]{0,22})");
  size_t video = 0, image = 0;
  for (std::sregex_iterator at(html.begin(), html.end(), source), end; at != end; ++at) {
    const std::string start = (*at)[2];
    video += start.starts_with("data:video/mp4;base64,") ? 1 : 0;
    image += start.starts_with("data:image/png;base64,") ? 1 : 0;
    EXPECT_THAT(start, StartsWith("data:"));
  }
  EXPECT_EQ(video, videos);
  EXPECT_EQ(image, images);
  for (const auto* outside : {"<link", "<script", "url(", "@import", "<iframe", "https://"})
    EXPECT_THAT(html, ::testing::Not(HasSubstr(outside)));
  const std::regex address("http://(?!www\\.w3\\.org/2000/svg\")");
  EXPECT_FALSE(std::regex_search(html, address));
}

// Every number, wherever it is; null only where equal frames have no PSNR.
void expect_finite(const json& value, const std::string& path) {
  if (value.is_number()) {
    EXPECT_TRUE(std::isfinite(value.get<double>())) << path;
  } else if (value.is_null()) {
    EXPECT_TRUE(path.find("/floor/figures/quality/psnr") != std::string::npos ||
                path.ends_with("/time_ratio") || path.ends_with("/cuda") || path.ends_with("/libav") ||
                path.ends_with("/latents") || path.find("/max_sequence_length") != std::string::npos)
        << path;
  } else if (value.is_structured()) {
    for (const auto& [key, entry] : value.items()) expect_finite(entry, path + "/" + key);
  }
}

void expect_floor_of_zero(const json& floor, int64_t frames) {
  EXPECT_EQ(floor.at("identical"), true);
  const auto& figures = floor.at("figures");
  EXPECT_EQ(figures.at("quality").at("identical_frames"), frames);
  EXPECT_EQ(figures.at("quality").at("ssim").at("worst"), 1);
  for (const auto* list : {"latents", "locked_latents"})
    for (const auto& step : figures.at(list)) EXPECT_EQ(step.at("max_abs"), 0) << list;
  for (const auto& call : figures.at("attention")) EXPECT_EQ(call.at("max_abs"), 0);
}

TEST_F(CompareCommand, WritesAllThatItPromises) {
  const auto result = compare({"--a", "sdpa", "--b", "sage2", "--locked", "--output", at("out/")});
  ASSERT_EQ(result.exit_code, kDone) << result.err;
  EXPECT_EQ(folder_.names(), std::set<std::string>{"out"});
  EXPECT_EQ(names("out"), (std::set<std::string>{"a" + kVideo, "b" + kVideo, "side_by_side" + kVideo,
                                                 "contact_sheet.png", "report.json", "report.html"}));
  EXPECT_THAT(result.out, HasSubstr("a twice: bit-identical: the latents of every step and every frame\n"));
  EXPECT_THAT(result.out, HasSubstr(at("out/report.html")));
  EXPECT_THAT(result.out, HasSubstr("emulated: quality, not speed"));

  const auto all = report("out");
  expect_finite(all, "");
  const auto frames = request_.at("num_frames").get<int64_t>(), steps = request_.at("steps").get<int64_t>();
  expect_floor_of_zero(all.at("floor"), frames);
  const auto &a = all.at("runs").at(0), &b = all.at("runs").at(1);
  EXPECT_EQ(a.at("emulated"), false);
  EXPECT_EQ(b.at("emulated"), true);
  EXPECT_TRUE(b.at("time_ratio").is_null());
  EXPECT_EQ(b.at("served"), json::array({"sage2"}));
  EXPECT_EQ(a.at("report").at("request").at("seed"), b.at("report").at("request").at("seed"));
  EXPECT_EQ(b.at("report").at("seconds").at("load"), 0) << "one load";
  EXPECT_EQ(b.at("seconds").at("steps").size(), size_t(steps));

  const auto& figures = b.at("figures");
  const auto &free = figures.at("latents"), &locked = figures.at("locked_latents");
  ASSERT_EQ(free.size(), size_t(steps));
  ASSERT_EQ(locked.size(), size_t(steps));
  EXPECT_EQ(free[0], locked[0]) << "the same noise";
  EXPECT_GT(free[0].at("relative_l1"), 0);
  for (int64_t i = 1; i < steps; ++i) EXPECT_NE(free[i], locked[i]) << "drift, and none";
  EXPECT_LT(locked.back().at("relative_l1"), free.back().at("relative_l1"));
  const auto config = json::parse(read_file(kFixture / "model/transformer/config.json"));
  EXPECT_EQ(figures.at("attention").size(), size_t(steps * config.at("num_layers").get<int64_t>()));
  for (const auto& call : figures.at("attention")) EXPECT_GT(call.at("relative_l1"), 0);

  const auto html = read_file(folder_ / "out/report.html");
  expect_self_contained(html, kVideo.empty() ? 0 : 3, 1);
  EXPECT_THAT(html, HasSubstr("emulated: quality, not speed"));
  EXPECT_THAT(html, HasSubstr("floor: a again"));
}

// The figures are of the frames before encoding: those that generate makes of the same request.
TEST_F(CompareCommand, ItsFiguresAreThoseOfGeneratesFrames) {
  ASSERT_EQ(
      compare({"--a", "sdpa", "--b", "sage2", "--no-attention-errors", "--output", at("out/")}).exit_code,
      kDone);
  const auto count = request_.at("num_frames").get<int64_t>();
  const auto made = [&](const std::string& spec) {
    EXPECT_EQ(run_sagelab(generate({"--attention", spec, "--output", at(spec + "/")})).exit_code, kDone);
    const auto frames = read_frames(folder_ / spec, count);
    Picture picture{int(frames.size(0)), int(frames.size(1)), int(frames.size(2)), {}};
    picture.pixels.assign(frames.const_data_ptr<uint8_t>(),
                          frames.const_data_ptr<uint8_t>() + frames.numel());
    return picture;
  };
  const auto a = made("sdpa"), b = made("sage2");
  const auto quality = quality_of(b, a);
  const auto run = report("out").at("runs").at(1);
  EXPECT_TRUE(run.at("figures").at("attention").is_null());
  EXPECT_EQ(run.at("figures").at("quality").at("psnr").at("per_frame").get<std::vector<double>>(),
            quality.psnr);
  EXPECT_EQ(run.at("figures").at("quality").at("ssim").at("per_frame").get<std::vector<double>>(),
            quality.ssim);
  EXPECT_EQ(run.at("temporal").at("flicker_score"), flicker_score(frame_changes(b)));
}

TEST_F(CompareCommand, AnImageAndThreeSpecs) {
  const auto result =
      compare({"--a", "sdpa", "--b", "sdpa(math)", "--c", "sdpa", "--num-frames", "1", "--steps", "2",
               "--json", "--prompt", "A <b>fox</b> & a \"hen\"", "--output", at("out")});
  ASSERT_EQ(result.exit_code, kDone) << result.err;
  EXPECT_EQ(names("out"), (std::set<std::string>{"a.png", "b.png", "c.png", "side_by_side.png",
                                                 "contact_sheet.png", "report.json", "report.html"}));
  EXPECT_EQ(json::parse(result.out), report("out"));
  const auto runs = report("out").at("runs");
  EXPECT_EQ(runs.at(2).at("figures").at("quality").at("identical_frames"), 1) << "c is a";
  EXPECT_FALSE(runs.at(1).at("time_ratio").is_null()) << "neither is emulated";
  EXPECT_TRUE(runs.at(0).at("temporal").at("flicker_score").is_null()) << "one frame";
  const auto html = read_file(folder_ / "out/report.html");
  expect_self_contained(html, 0, 5);
  EXPECT_THAT(html, HasSubstr("A &lt;b&gt;fox&lt;/b&gt; &amp; a &quot;hen&quot;"));
  EXPECT_THAT(html, ::testing::Not(HasSubstr("<b>fox")));
}

// Each backend gives the same bits twice, whichever of the two is a.
TEST_F(CompareCommand, SageTwiceIsBitIdenticalToo) {
  const auto result = compare({"--a", "sage2", "--b", "sdpa", "--steps", "2", "--output", at("out/")});
  ASSERT_EQ(result.exit_code, kDone) << result.err;
  const auto all = report("out");
  EXPECT_EQ(all.at("floor").at("identical"), true);
  EXPECT_EQ(all.at("runs").at(0).at("emulated"), true);
  EXPECT_TRUE(all.at("runs").at(1).at("time_ratio").is_null()) << "a's time is emulated";
}

TEST_F(CompareCommand, OnTheGpuToo) {
  if (!at::hasCUDA()) GTEST_SKIP() << "no CUDA device";
  for (const auto& [a, b] : {std::pair{"sdpa", "sage2"}, {"sage2", "sdpa"}}) {
    const auto result = compare(
        {"--a", a, "--b", b, "--locked", "--device", "cuda", "--dtype", "bf16", "--output", at("out/")});
    ASSERT_EQ(result.exit_code, kDone) << result.err;
    const auto all = report("out");
    EXPECT_EQ(all.at("floor").at("identical"), true) << a << ": " << floor_text(all.at("floor"));
    const auto& run = all.at("runs").at(1);
    EXPECT_EQ(run.at("emulated"), false);
    EXPECT_GT(run.at("time_ratio").get<double>(), 0);
    EXPECT_EQ(run.at("figures").at("latents")[0], run.at("figures").at("locked_latents")[0]);
  }
}

TEST_F(CompareCommand, AnEarlierComparisonIsReplacedAndNothingElse) {
  const std::vector<std::string> quick{
      "--a",      "sdpa",   "--b", "sdpa", "--num-frames", "1", "--steps", "1", "--no-attention-errors",
      "--output", at("out")};
  fs::create_directory(folder_ / "out");
  ASSERT_EQ(compare(quick).exit_code, kDone) << "an empty folder";
  auto again = quick;
  again.insert(again.end(), {"--seed", "5"});
  ASSERT_EQ(compare(again).exit_code, kDone);
  EXPECT_EQ(report("out").at("request").at("seed"), 5);
  write_file(folder_ / "out" / "notes.txt", "kept");
  fails(quick, kFailed,
        "the folder " + at("out") +
            " holds other files (notes.txt); choose a new or an empty folder for --output");
  fs::remove(folder_ / "out" / "notes.txt");
  write_file(folder_ / "out" / "report.json", "{}");
  fails(quick, kFailed,
        "the folder " + at("out") +
            " holds files without the report.json of a comparison; choose a new or an empty folder for "
            "--output");
}

TEST(CompareFigures, AreShortWithoutPowersOfTen) {
  EXPECT_EQ(figure(1234.5, 3), "1234");
  EXPECT_EQ(figure(999.4, 3), "999");
  EXPECT_EQ(figure(0.012345, 3), "0.0123");
  EXPECT_EQ(figure(nullptr), "-");
}

TEST_F(CompareCommand, WrongUse) {
  const auto out = at("o/");
  fails({"--a", "sdpa", "--output", out}, kUsage, "--b is required; see sagelab compare --help");
  const auto refused =
      run_sagelab(generate({"--attention", "sdpo", "--output", out})).err;  // "sagelab: ...\n"
  fails({"--a", "sdpa", "--b", "sdpo", "--output", out}, kUsage,
        "--b: " + refused.substr(9, refused.size() - 10));
  fails({"--a", "sdpa", "--b", "sdpa", "--d", "sdpa", "--output", out}, kUsage,
        "--d is given, and --c is not; name the backends --a, --b, --c ... in order");
  fails({"--a", "sdpa", "--b", "sdpa", "--output", at("o.mp4")}, kUsage,
        "a comparison is a folder, not one file: --output " + at("o.mp4") + "; name it folder/");
  const auto settled = [&](const std::string& flag, const std::string& value, const std::string& hint) {
    fails({"--a", "sdpa", "--b", "sdpa", "--output", out, flag, value}, kUsage,
          flag + " has no effect with compare; " + hint);
  };
  settled("--attention", "sdpa", "name the backends with --a and --b");
  settled("--latents", at("z"), "leave it out; generate keeps latents");
  settled("--preview", "1", "leave it out");
}

TEST_F(CompareCommand, ASpecThatCannotServeIsKnownBeforeAnythingIsLoaded) {
  const auto result = compare({"--a", "sdpa", "--b", "sdpa(cudnn)", "--output", at("o/")});
  EXPECT_EQ(result.exit_code, kFailed);
  EXPECT_THAT(result.err, StartsWith("sagelab: --b sdpa(cudnn): "));
  EXPECT_THAT(result.err, ::testing::Not(HasSubstr("load")));
  EXPECT_EQ(folder_.names(), std::set<std::string>{});
}

TEST_F(CompareCommand, ADiskThatFillsIsSaidWithTheFoldersOwnName) {
  const SmallDisk disk(folder_ / "disk", "size=100k");
  if (!disk.mounted()) GTEST_SKIP() << "no right to mount a small disk";
  const auto result = compare(
      {"--a", "sdpa", "--b", "sdpa", "--steps", "1", "--no-attention-errors", "--output", at("disk/o/")});
  EXPECT_EQ(result.exit_code, kFailed);
  EXPECT_THAT(result.err, HasSubstr("sagelab: cannot write " + at("disk/o/")));
  EXPECT_THAT(result.err, HasSubstr("No space left on device; free some space in " + at("disk/o") + ","));
  EXPECT_THAT(result.err, ::testing::Not(HasSubstr(".part"))) << "nobody asked for the draft's name";
  EXPECT_TRUE(fs::is_empty(folder_ / "disk"));
}

TEST_F(CompareCommand, ADiskWithoutRoomIsToldBeforeTheRuns) {
  const SmallDisk disk(folder_ / "disk", "size=16k");
  if (!disk.mounted()) GTEST_SKIP() << "no right to mount a small disk";
  const auto result = compare({"--a", "sdpa", "--b", "sdpa", "--output", at("disk/o/")});
  EXPECT_EQ(result.exit_code, kFailed);
  EXPECT_THAT(result.err, StartsWith("sagelab: cannot write " + at("disk/o/")));
  EXPECT_THAT(result.err, ::testing::Not(HasSubstr(".part")));
  EXPECT_TRUE(fs::is_empty(folder_ / "disk"));
}

TEST_F(CompareCommand, CtrlCLeavesNothing) {
  auto arguments = generate({"--a", "sdpa", "--b", "sdpa", "--steps", "1000", "--output", at("o/")});
  arguments[0] = "compare";
  const Program program(arguments);
  while (program.err_so_far().find("denoise 2/") == std::string::npos) {
    ASSERT_EQ(::kill(program.pid(), 0), 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  ::kill(program.pid(), SIGINT);
  const auto result = program.wait();
  EXPECT_EQ(result.exit_code, kInterrupted) << result.err;
  EXPECT_TRUE(result.err.ends_with("sagelab: cancelled\n")) << result.err;
  EXPECT_EQ(folder_.names(), std::set<std::string>{});
}

// The program in a tree of its own, where the bundled model is another.
class DemoCommand : public EndToEnd {
 protected:
  std::string program_ = at("tree/build/bin/sagelab");
  void SetUp() override {
    fs::create_directories(folder_ / "tree/build/bin");
    fs::copy_file(SAGELAB_BINARY, program_);
  }
};

TEST_F(DemoCommand, SaysWhereItsModelShouldBe) {
  const auto result = Program(std::vector<std::string>{"demo"}, {}, program_).wait();
  EXPECT_EQ(result.exit_code, kFailed);
  EXPECT_THAT(result.err, StartsWith("sagelab: the demo's model is not there: no folder above "));
  EXPECT_THAT(result.err, HasSubstr("holds assets/demo; "));
}

TEST_F(DemoCommand, ComparesOnTheBundledModel) {
  fs::create_directories(folder_ / "tree/assets");
  fs::create_directory_symlink(kFixture / "model", folder_ / "tree/assets/demo");
  const auto result = Program({"demo", "--prompt", "a fox", "--steps", "2", "--width", "48", "--height", "32",
                               "--num-frames", "5", "--device", "cpu", "--output", at("out")},
                              {}, program_)
                          .wait();
  ASSERT_EQ(result.exit_code, kDone) << result.err;
  EXPECT_TRUE(fs::exists(folder_ / "out/report.html"));
  const auto report = json::parse(read_file(folder_ / "out/report.json"));
  EXPECT_EQ(report.at("request").at("prompt"), "a fox");
  EXPECT_EQ(report.at("runs").at(0).at("spec"), "sdpa");
  EXPECT_EQ(report.at("runs").at(1).at("spec"), "sage2");
  EXPECT_THAT(result.out, HasSubstr("PSNR "));
  EXPECT_THAT(result.out, HasSubstr(at("out/contact_sheet.png")));
}

}  // namespace
}  // namespace sagelab
