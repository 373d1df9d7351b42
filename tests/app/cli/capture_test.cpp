// SPDX-License-Identifier: Apache-2.0
// `generate --capture-qkv`: the real binary on a genuine folder, and what reads the files that it writes.
#include "app/commands/capture.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/resource.h>

#include <cmath>
#include <csignal>

#include "app/failure.h"
#include "pipelines/core/safetensors.h"
#include "tests/app/cli/end_to_end.h"
#include "tests/support/parity.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;
using ::testing::HasSubstr;

class CaptureQkv : public EndToEnd {
 protected:
  json config_ = json::parse(read_file(kFixture / "model/transformer/config.json"));

  static std::string name(int step, int layer) {
    return fmt::format("step_{:04}_layer_{:04}_block_both_call_0.safetensors", step, layer);
  }
  static std::set<std::string> names(const std::set<int>& steps, const std::set<int>& layers) {
    std::set<std::string> all;
    for (const int step : steps)
      for (const int layer : layers) all.insert(name(step, layer));
    return all;
  }
  std::set<std::string> captured(const std::string& folder) const {
    std::set<std::string> all;
    for (const auto& entry : fs::directory_iterator(folder_ / folder))
      all.insert(entry.path().filename().string());
    return all;
  }
  json run(std::vector<std::string> more) const {
    more.push_back("--json");
    const auto result = run_sagelab(generate(std::move(more)));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return json::parse(result.out);
  }
  // The run that is refused leaves nothing but what was there.
  void fails(std::vector<std::string> more, int exit_code, const std::string& message) const {
    const auto before = folder_.names();
    const auto result = run_sagelab(generate(std::move(more)));
    EXPECT_EQ(result.exit_code, exit_code);
    EXPECT_EQ(result.err, "sagelab: " + message + "\n");
    EXPECT_EQ(folder_.names(), before);
  }
  std::string bench(int exit_code) const {
    const auto result = run_sagelab({"bench", "accuracy", "--input", at("c"), "--tiles", "1", "--device",
                                     "cpu", "--tables", "smoothing"});
    EXPECT_EQ(result.exit_code, exit_code);
    return exit_code == kDone ? result.out : result.err;
  }
};

TEST_F(CaptureQkv, TheRunIsAsWithoutIt) {
  for (const auto& [mode, spec] :
       std::map<std::string, std::string>{{"forward", "sdpa"}, {"call", "prefer(sdpa(cudnn),sage2)"}}) {
    const auto with = [&](const std::string& name, std::vector<std::string> more) {
      more.insert(more.end(), {"--output", at(name + "/"), "--latents", at(name + ".z"), "--attention", spec,
                               "--attention-switch", mode});
      return run(more);
    };
    const auto a = "a-" + mode, b = "b-" + mode, c = "c-" + mode;
    const auto plain = with(a, {}), captures = with(b, {"--capture-qkv", at(c)});
    EXPECT_TRUE(at::equal(Dump(at(a + ".z"))["latents"], Dump(at(b + ".z"))["latents"]));
    for (const auto& frame : captured(a))
      if (frame.ends_with(".png")) {
        EXPECT_EQ(read_file(folder_ / a / frame), read_file(folder_ / b / frame));
      }
    EXPECT_EQ(plain.at("attention"), captures.at("attention")) << "who served, fused or not, what fell back";
    const auto denoise = [](const json& report) {
      return report.at("memory").at("peak_bytes_by_phase").at("denoise").get<double>();
    };
    EXPECT_NEAR(denoise(captures) / denoise(plain), 1, 0.01)
        << "sdpa gathers as much, sage2's twin takes more";
    EXPECT_EQ(captured(c), names({0, 2, 3}, {0, 1, 2})) << "the first, the middle, the last";
  }
}

TEST_F(CaptureQkv, ADryRunSaysWhatIsWritten) {
  const std::vector<std::string> flags{"--output", at("f/"), "--capture-qkv", at("c")};
  auto dry = flags;
  dry.push_back("--dry-run");
  const auto plan = run(dry);
  EXPECT_EQ(folder_.names(), std::set<std::string>{});
  EXPECT_EQ(plan.at("writes").at(0), at("c") + "/");
  EXPECT_THAT(run_sagelab(generate(dry)).out,
              HasSubstr("\ncaptures    " + at("c") + "/: 9 files of q, k and v, 4 MB\n"));
  EXPECT_EQ(plan.at("capture"), run(flags).at("capture"));
  int64_t files = 0, bytes = 0;
  for (const auto& name : captured("c")) {
    const Dump dump(folder_ / "c" / name);
    files += 1;
    for (const auto& [key, tensor] : dump.tensors()) bytes += int64_t(tensor.nbytes());
  }
  EXPECT_EQ(plan.at("capture"), (json{{"folder", at("c") + "/"}, {"files", files}, {"bytes", bytes}}));
  EXPECT_EQ(run({"--output", at("g/"), "--dry-run"}).at("capture"), json());
}

TEST_F(CaptureQkv, EachFileSaysWhichCallItIs) {
  const auto result = run_sagelab(generate(
      {"--output", at("f/"), "--capture-qkv", at("c"), "--capture-layers", "1", "--capture-steps", "2"}));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, ::testing::EndsWith("\n" + at("c") + "/: 1 file of q, k and v, 439 kB\n"));
  EXPECT_EQ(captured("c"), names({2}, {1}));
  const SafetensorsFile file(folder_ / "c" / name(2, 1));
  const int64_t heads = config_.at("num_attention_heads"), dim = config_.at("attention_head_dim");
  const std::map<std::string, std::string> expected{{"scale", fmt::format("{}", 1 / std::sqrt(double(dim)))},
                                                    {"causal", "false"},
                                                    {"step", "2"},
                                                    {"steps", "4"},
                                                    {"layer", "1"},
                                                    {"layers", "3"},
                                                    {"call", "0"},
                                                    {"block", "block"},
                                                    {"branch", "both"},
                                                    {"model", "model"}};
  EXPECT_EQ(file.metadata(), expected);
  for (const auto* key : {"q", "k", "v"}) {
    const auto tensor = file.tensor(key);
    EXPECT_EQ(tensor.sizes(), at::IntArrayRef({2, 286, heads, dim})) << key;
    EXPECT_EQ(tensor.scalar_type(), at::kFloat);
    EXPECT_TRUE(at::isfinite(tensor).all().item<bool>());
  }
}

TEST_F(CaptureQkv, ListsChooseAndBenchAndAttendReadTheFolder) {
  const auto report = run({"--output", at("f/"), "--dtype", "bf16", "--capture-qkv", at("c/"),
                           "--capture-layers", "0+last", "--capture-steps", "1-2"});
  EXPECT_EQ(report.at("capture").at("files"), 4);
  EXPECT_EQ(captured("c"), names({1, 2}, {0, 2}));
  const auto table = bench(kDone);
  EXPECT_THAT(table, HasSubstr(at("c") + ", 4 layers: "));
  EXPECT_EQ(table.find("nan"), std::string::npos) << table;
  const auto input = (folder_ / "c" / name(1, 2)).string();
  const auto attend = run_sagelab({"attend", "--input", input, "--attention", "check(sdpa,reference)",
                                   "--device", "cpu", "--output", at("o.safetensors")});
  EXPECT_EQ(attend.exit_code, 0) << attend.err;
  EXPECT_EQ(SafetensorsFile(at("o.safetensors")).tensor("out").sizes(),
            SafetensorsFile(input).tensor("q").sizes());
  EXPECT_EQ(SafetensorsFile(input).tensor("q").scalar_type(), at::kBFloat16);
}

TEST_F(CaptureQkv, BenchRefusesCallsThatItsStudiesAreNotOf) {
  EXPECT_EQ(bench(kFailed), "sagelab: " + at("c") +
                                ": No such file or directory; give a folder of safetensors files with q, k "
                                "and v [B, S, H, D]\n");
  fs::create_directory(folder_ / "c");
  const auto file = (folder_ / "c" / "a.safetensors").string();
  const auto x = at::randn({1, 128, 2, 16});
  const auto refused = [&](const at::Tensor& k, const std::map<std::string, std::string>& metadata) {
    write_safetensors(file, {{"q", x}, {"k", k}, {"v", k}}, metadata);
    return bench(kFailed);
  };
  EXPECT_EQ(refused(x, {{"causal", "true"}}),
            "sagelab: " + file +
                ": causal is true in its metadata, and the studies are of calls without a mask; leave this "
                "file out\n");
  for (const auto* scale : {"0.5", "-0.25", "nan", "much", ""})
    EXPECT_EQ(
        refused(x, {{"causal", "false"}, {"scale", scale}}),
        "sagelab: " + file + ": scale is " + scale +
            " in its metadata, and the studies are of calls with 1/sqrt(D), 0.25; leave this file out\n");
  EXPECT_EQ(refused(at::randn({1, 130, 2, 16}), {}),
            "sagelab: " + file +
                ": q [1, 128, 2, 16], k [1, 130, 2, 16] and v [1, 130, 2, 16] do not fit each other\n");
  EXPECT_EQ(refused(at::randn({128, 2, 16}), {}),
            "sagelab: " + file +
                ": k [batch, tokens, heads, head dimension] is missing; give a folder of safetensors files "
                "with q, k and v [B, S, H, D]\n");
  write_safetensors(file, {{"q", x}, {"k", x}, {"v", x}}, {{"causal", "false"}, {"scale", "0.25"}});
  EXPECT_THAT(bench(kDone), HasSubstr(", 1 layers: "));
}

TEST_F(CaptureQkv, WrongUse) {
  fails({"--output", at("f/"), "--capture-layers", "0"}, 2,
        "--capture-layers requires --capture-qkv; see sagelab generate --help");
  fails({"--output", at("f/"), "--capture-steps", "0"}, 2,
        "--capture-steps requires --capture-qkv; see sagelab generate --help");
  const auto refused = [&](const std::string& flag, const std::string& list, const std::string& message) {
    fails({"--output", at("f/"), "--capture-qkv", at("c"), flag, list}, 2,
          message + "; write 3, 0-4, 0+2-5 or last");
  };
  refused("--capture-layers", "2-1", "--capture-layers: '2-1' is no list of layers");
  refused("--capture-steps", "first", "--capture-steps: 'first' is no list of steps");
  refused("--capture-layers", "0+2-3",
          "--capture-layers 0+2-3 asks for layer 3, and this run has layers 0 to 2");
  refused("--capture-steps", "9-last",
          "--capture-steps 9-last asks for step 9, and this run has steps 0 to 3");
  fails({"--output", at("f/"), "--capture-qkv", ""}, 2,
        "--capture-qkv names no folder; give it a new folder");
  fails({"--output", at("f/"), "--capture-qkv", at("f/c")}, 2,
        "--capture-qkv lies in the output folder " + at("f") +
            ", which is replaced as a whole: " + at("f/c") + "; choose a place outside of it");
}

TEST_F(CaptureQkv, AFolderThatCannotTakeThemIsKnownBeforeTheRun) {
  fs::create_directory(folder_ / "c");
  write_file(folder_ / "c" / "x.txt", "kept");
  for (const auto* more : {"--json", "--dry-run"})
    fails({"--output", at("f/"), "--capture-qkv", at("c/"), more}, 1,
          "the folder " + at("c") +
              " holds files already (x.txt); choose a new or an empty folder for --capture-qkv");
  fails({"--output", at("f/"), "--capture-qkv", at("c/x.txt")}, 1,
        at("c/x.txt") + " is a file, not a folder; choose another place for --capture-qkv");
  fails({"--output", at("f/"), "--capture-qkv", at("no/c")}, 1,
        "cannot write " + at("no/c") + ": No such file or directory; make the folder " + at("no") +
            " first, or choose another place");
  rlimit before = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small = {200'000, before.rlim_max};  // less than one call takes, more than the latents do
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  fails({"--output", at("f/"), "--capture-qkv", at("d")}, 1,
        "cannot write " + at("d/probe.safetensors") + ": File too large; free some space in " + at("d") +
            ", or choose another place");
  ::setrlimit(RLIMIT_FSIZE, &before);
}

TEST_F(CaptureQkv, ADiskWithoutRoomForAllOfThemIsKnownBeforeTheRun) {
  const SmallDisk disk(folder_ / "disk", "size=1m");
  if (!disk.mounted()) GTEST_SKIP() << "no right to mount a small disk";
  const auto result = run_sagelab(generate({"--output", at("f/"), "--capture-qkv", at("disk/c")}));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err,
              ::testing::MatchesRegex(
                  "sagelab: 9 files of q, k and v take 4 MB, and [0-9.]+ [kM]B are free in " + at("disk/c") +
                  "/; free some space there, choose another place, or capture fewer layers or "
                  "steps\n"));
  EXPECT_TRUE(fs::is_empty(folder_ / "disk"));
}

TEST_F(CaptureQkv, DecodingAgainCapturesNothing) {
  ASSERT_EQ(run_sagelab(generate({"--output", at("a/"), "--latents", at("z"), "--steps", "1"})).exit_code, 0);
  const auto result =
      run_sagelab({"generate", "--from-latents", at("z"), "--output", at("b/"), "--capture-qkv", at("c")});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(result.err,
            "sagelab: --capture-qkv has no effect with --from-latents: nothing is denoised; leave it out\n");
}

// The sink alone: a disk that fills during the run, and several calls of one layer in one step.
struct Sink : ::testing::Test {
  TempFolder folder;
  Request request;
  Plan plan;
  std::string place = (folder / "c").string();
  attention::Captured call{
      at::ones({1, 100, 2, 16}), at::zeros({1, 100, 2, 16}), at::ones({1, 100, 2, 16}), 0.25, false, {}};

  Sink() {
    request.model = "models/tiny/";
    plan.steps = 4, plan.layers = 1, plan.calls = {{0, 38'400}, {0, 38'400}};
    call.site.block = "attn2";
  }
  static std::string file(const std::string& branch, int n) {
    return fmt::format("step_0000_layer_0000_attn2_{}_call_{}.safetensors", branch, n);
  }
  std::set<std::string> files() const {
    std::set<std::string> all;
    for (const auto& entry : fs::directory_iterator(place)) all.insert(entry.path().filename().string());
    return all;
  }
};

TEST_F(Sink, EveryCallHasAFileOfItsOwn) {
  CaptureFolder captures({place, "", "0"}, request, plan);
  EXPECT_EQ(captures.planned().files, 2);
  captures.make();
  const auto sink = captures.capturing().sink;
  sink(call);
  call.q = call.q * 2;
  sink(call);
  call.site.branch = attention::Branch::SkipLayer;
  sink(call);
  EXPECT_EQ(files(), (std::set<std::string>{file("cond", 0), file("cond", 1), file("skip-layer", 0)}));
  const SafetensorsFile second(fs::path(place) / file("cond", 1));
  EXPECT_EQ(second.tensor("q").max().item<float>(), 2);
  EXPECT_EQ(second.metadata().at("call"), "1");
  EXPECT_EQ(second.metadata().at("model"), "tiny");
  EXPECT_EQ(captures.written().files, 3);
}

TEST_F(Sink, AFileThatCannotBeWrittenIsNotThereAtAll) {
  CaptureFolder captures({place, "", ""}, request, plan);
  captures.make();
  const auto sink = captures.capturing().sink;
  sink(call);
  rlimit before = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small = {20'000, before.rlim_max};
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);  // as the program does
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  std::string message;
  try {
    sink(call);
  } catch (const Error& e) {
    message = e.what();
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(message, "cannot write " + place + "/" + file("cond", 1) + ": File too large");
  EXPECT_EQ(files(), std::set<std::string>{file("cond", 0)});
  EXPECT_EQ(captures.written().files, 1);
}

TEST_F(Sink, AnEmptyFolderGoesAndOneThatHoldsFilesStays) {
  {
    CaptureFolder captures({place, "", ""}, request, plan);
    captures.make();
    EXPECT_TRUE(fs::is_directory(place));
  }
  EXPECT_FALSE(fs::exists(place)) << "the run failed before it captured anything";
  {
    CaptureFolder captures({place, "", ""}, request, plan);
    captures.make();
    captures.capturing().sink(call);
  }
  EXPECT_EQ(files(), std::set<std::string>{file("cond", 0)});
  fs::remove_all(place);
  fs::create_directory(place);
  {
    CaptureFolder captures({place, "", ""}, request, plan);
    captures.make();
  }
  EXPECT_TRUE(fs::exists(place)) << "it was there before";
}

}  // namespace
}  // namespace sagelab
