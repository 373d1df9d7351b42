// SPDX-License-Identifier: Apache-2.0
#include "app/options.h"

#include <ATen/ATen.h>

#include <CLI/CLI.hpp>

#include "app/failure.h"
#include "pipelines/core/safetensors.h"
#include "tests/app/support.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;

const std::vector<Option> kTable{{"use_dynamic_cfg", false, 0, 0, {}, "guidance that grows"},
                                 {"max_sequence_length", int64_t(226), 1, 512, {}, "text tokens"},
                                 {"eta", 0.0, 0, 1, {}, "noise"},
                                 {"scheduler", std::string("auto"), 0, 0, {"auto", "ddim"}, "which"}};

Request parse(std::vector<std::string> arguments) {
  CLI::App app;
  RequestFlags flags(app);
  flags.add_options(app, "fake", kTable);
  std::reverse(arguments.begin(), arguments.end());
  app.parse(arguments);
  return flags.request();
}

std::string usage_error(const std::vector<std::string>& arguments) {
  try {
    parse(arguments);
  } catch (const UsageError& e) {
    return std::string(e.what()) + "; " + e.hint();
  } catch (const CLI::ParseError& e) {
    return std::string("parser: ") + e.what();
  }
  return "no error";
}

TEST(Options, UnsetStaysUnset) {
  const auto r = parse({"--model", "m", "--prompt", "p"});
  Request expected;
  expected.model = "m";
  expected.prompt = "p";
  EXPECT_EQ(to_json(r), to_json(expected));
  EXPECT_FALSE(r.width || r.height || r.num_frames || r.steps || r.guidance_scale || r.fps);
  EXPECT_TRUE(r.options.empty());
}

std::vector<std::string> every_flag() {
  std::vector<std::string> arguments;
  for (const auto& [flag, value] : std::vector<std::pair<const char*, const char*>>{
           {"--model", "m"},
           {"--prompt", ""},
           {"--negative-prompt", "n"},
           {"--width", "96"},
           {"--height", "64"},
           {"--num-frames", "9"},
           {"--steps", "4"},
           {"--guidance-scale", "5.5"},
           {"--seed", "18446744073709551615"},
           {"--dtype", "bf16"},
           {"--device", "cuda:1"},
           {"--variant", "fp16"},
           {"--weights", "transformer=a.safetensors"},
           {"--weights", "vae=b.safetensors"},
           {"--attention", "sdpa(math)"},
           {"--attention-switch", "call"},
           {"--attention-at", "2.1=sdpa"},
           {"--attention-at", "3=reference"},
           {"--vae-tiling", "on"},
           {"--offload", "encoders"},
           {"--fps", "16"},
           {"--preview", "2"},
           {"--output", "x.mp4"},
           {"--latents", "z.safetensors"},
       }) {
    arguments.push_back(flag);
    arguments.push_back(value);
  }
  return arguments;
}

const nlohmann::json& fields_of_every_flag() {
  static const nlohmann::json kJson{{"model", "m"},
                                    {"prompt", ""},
                                    {"negative_prompt", "n"},
                                    {"width", 96},
                                    {"height", 64},
                                    {"num_frames", 9},
                                    {"steps", 4},
                                    {"guidance_scale", 5.5},
                                    {"seed", 18446744073709551615u},
                                    {"dtype", "bf16"},
                                    {"device", "cuda:1"},
                                    {"variant", "fp16"},
                                    {"weights", {"transformer=a.safetensors", "vae=b.safetensors"}},
                                    {"attention", "sdpa(math)"},
                                    {"attention_switch", "call"},
                                    {"attention_at", {"2.1=sdpa", "3=reference"}},
                                    {"vae_tiling", "on"},
                                    {"offload", "encoders"},
                                    {"fps", 16.0},
                                    {"preview", 2},
                                    {"output", "x.mp4"},
                                    {"latents", "z.safetensors"}};
  return kJson;
}

TEST(Options, EveryFlagLandsInItsField) {
  const auto json = to_json(parse(every_flag()));
  for (const auto& [key, value] : fields_of_every_flag().items()) EXPECT_EQ(json.at(key), value) << key;
}

TEST(Options, TheFamilysTableMakesFlags) {
  const auto r = parse({"--model=m", "--prompt=p", "--use-dynamic-cfg", "--max-sequence-length", "64",
                        "--eta", "0.5", "--scheduler", "ddim"});
  EXPECT_EQ(r.options.at("use_dynamic_cfg"), OptionValue(true));
  EXPECT_EQ(r.options.at("max_sequence_length"), OptionValue(int64_t(64)));
  EXPECT_EQ(r.options.at("eta"), OptionValue(0.5));
  EXPECT_EQ(r.options.at("scheduler"), OptionValue(std::string("ddim")));
  EXPECT_EQ(parse({"--model=m", "--prompt=p", "--no-use-dynamic-cfg"}).options.at("use_dynamic_cfg"),
            OptionValue(false));
}

TEST(Options, ValuesOutsideTheTableAreRefused) {
  const std::vector<std::string> base{"--model=m", "--prompt=p"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), base.begin(), base.end());
    return usage_error(more);
  };
  EXPECT_EQ(with({"--max-sequence-length", "0"}),
            "parser: --max-sequence-length: Value 0 not in range 1 to 512");
  EXPECT_EQ(with({"--scheduler", "euler"}), "parser: --scheduler: euler not in {auto,ddim}");
  EXPECT_EQ(with({"--dtype", "int8"}), "parser: --dtype: int8 not in {auto,fp32,fp16,bf16}");
  EXPECT_EQ(with({"--width", "wide"}), "parser: Could not convert: --width = wide");
}

TEST(Options, FlagsWinOverTheRequestFile) {
  const TempFolder folder;
  write_file(folder / "r.json",
             R"({"model": "m", "prompt": "file", "seed": 3, "options": {"scheduler": "ddim"}})");
  const auto r = parse({"--request", folder / "r.json", "--prompt", "flag", "--use-dynamic-cfg"});
  EXPECT_EQ(r.model, "m");
  EXPECT_EQ(r.prompt, "flag");
  EXPECT_EQ(r.seed, 3u);
  EXPECT_EQ(r.options.at("scheduler"), OptionValue(std::string("ddim")));
  EXPECT_EQ(r.options.at("use_dynamic_cfg"), OptionValue(true));
}

TEST(Options, WhatIsMissingOrBadIsUsage) {
  EXPECT_EQ(usage_error({"--prompt", "p"}), "no model is named; give --model a diffusers folder");
  EXPECT_EQ(usage_error({"--model", "m"}), "no prompt is given; add --prompt \"what to show\"");
  EXPECT_EQ(usage_error({"--model", "m", "--prompt", "a\xff"}),
            "the prompt is not UTF-8: byte 0xff at position 1; pass the text in UTF-8");
}

TEST(Options, SeedsAreWholeNumbersOf64Bits) {
  const auto with = [](const std::string& seed) {
    return usage_error({"--model=m", "--prompt=p", "--seed=" + seed});
  };
  const std::string range = " is no whole number from 0 to 18446744073709551615";
  for (const std::string bad : {"-1", "18446744073709551616", "1e3", "0x10", " 7", "7.0"})
    EXPECT_EQ(with(bad), "parser: --seed: " + bad + range);
  EXPECT_EQ(parse({"--model=m", "--prompt=p", "--seed", "010"}).seed, 10u);
}

TEST(Options, NumbersFarBeyondAnyModelAreUsage) {
  const auto with = [](const std::string& flag, const std::string& value) {
    return usage_error({"--model=m", "--prompt=p", flag + "=" + value});
  };
  EXPECT_EQ(with("--width", "2000000000"), "width is 2000000000, not within 1 to 16384; ");
  EXPECT_EQ(with("--height", "0"), "height is 0, not within 1 to 16384; ");
  EXPECT_EQ(with("--num-frames", "4097"), "num_frames is 4097, not within 1 to 4096; ");
  EXPECT_EQ(with("--steps", "0"), "steps is 0, not within 1 to 10000; ");
  EXPECT_EQ(with("--preview", "-1"), "preview is -1, not within 0 to 10000; ");
  EXPECT_EQ(with("--fps", "0.000001"), "fps is 1e-06, not within 0.1 to 1000; ");
  EXPECT_EQ(with("--fps", "nan"), "fps is nan, not within 0.1 to 1000; ");
}

TEST(Options, EveryTextIsUtf8) {
  for (const auto& [flag, what] :
       std::map<std::string, std::string>{{"--variant", "variant"},
                                          {"--attention", "attention"},
                                          {"--negative-prompt", "negative prompt"},
                                          {"--model", "name of the model folder"},
                                          {"--output", "name of the output"},
                                          {"--latents", "name of the latents file"}})
    EXPECT_EQ(usage_error({"--model=m", "--prompt=p", flag, "x\xff"}),
              "the " + what + " is not UTF-8: byte 0xff at position 1; pass the text in UTF-8");
}

TEST(Options, LatentsAreAFile) {
  const TempFolder folder;
  const auto with = [](const std::string& name) {
    return usage_error({"--model=m", "--prompt=p", "--latents", name});
  };
  EXPECT_EQ(with("newdir/"), "--latents newdir/ is a folder, not a file; name it x.safetensors");
  EXPECT_EQ(with(folder.path()),
            "--latents " + folder.path().string() + " is a folder, not a file; name it x.safetensors");
}

TEST(Options, DecodingRefusesWhatOnlyDenoisingReads) {
  const TempFolder folder;
  const auto file = (folder / "z.safetensors").string();
  Request made;
  made.model = "m";
  made.prompt = "as it was";
  made.seed = 7;
  made.output = "first.mp4";
  made.latents = file;
  made.preview = 2;
  write_safetensors(file, {{"latents", at::ones({1})}}, {{"request", to_json(made).dump()}});
  for (const std::string flag :
       {"--prompt", "--negative-prompt", "--width", "--height", "--num-frames", "--steps", "--guidance-scale",
        "--seed", "--attention", "--preview", "--latents", "--request", "--max-sequence-length"})
    EXPECT_EQ(usage_error({"--from-latents", file, flag, "8"}),
              flag + " has no effect with --from-latents: nothing is denoised; leave it out");
  const auto r = parse({"--from-latents", file, "--model", "moved", "--device", "cpu", "--fps", "12"});
  EXPECT_EQ(r.model, "moved");
  EXPECT_EQ(r.prompt, "as it was");
  EXPECT_EQ(r.seed, 7u);
  EXPECT_EQ(r.fps, 12);
  EXPECT_EQ(r.output + r.latents, "") << "what the first run wrote is its own";
  EXPECT_EQ(r.preview, 0);
}

TEST(Options, TheModelIsKnownBeforeParsing) {
  const TempFolder folder;
  write_file(folder / "r.json", R"({"model": "in-file"})");
  const auto file = (folder / "r.json").string();
  const auto model = [](std::vector<const char*> arguments) { return model_in(arguments); };
  EXPECT_EQ(model({"sagelab", "generate", "--model", "a", "--seed", "1"}), "a");
  EXPECT_EQ(model({"sagelab", "generate", "--model=b"}), "b");
  EXPECT_EQ(model({"sagelab", "generate", "--request", file.c_str()}), "in-file");
  EXPECT_EQ(model({"sagelab", "generate", "--request", "nowhere.json"}), "");
  EXPECT_EQ(model({"sagelab", "generate", "--model"}), "");
}

}  // namespace
}  // namespace sagelab
