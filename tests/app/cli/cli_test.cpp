// SPDX-License-Identifier: Apache-2.0
// The real binary: exit codes and whole messages.
#include <torch/headeronly/version.h>

#include <nlohmann/json.hpp>

#include "pipelines/registry.h"
#include "tests/app/program.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;

void expect_failure(const std::vector<std::string>& arguments, int exit_code, const std::string& message) {
  const auto result = run_sagelab(arguments);
  EXPECT_EQ(result.exit_code, exit_code);
  EXPECT_EQ(result.err, "sagelab: " + message + "\n");
  EXPECT_EQ(result.out, "");
}

std::string listed(std::string Family::*field) {
  std::string all;
  for (const auto& family : families()) all += (all.empty() ? "" : ", ") + family.*field;
  return all;
}

TEST(Cli, VersionAndHelp) {
  const auto version = run_sagelab({"--version"});
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_EQ(version.out, "sagelab " SAGELAB_VERSION " (torch " TORCH_VERSION ")\n");
  const auto help = run_sagelab({"generate", "--help"});
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_EQ(help.err, "");
  for (const auto* flag :
       {"--model", "--prompt", "--num-frames", "--attention", "--latents", "--dry-run", "--report"})
    EXPECT_NE(help.out.find(flag), std::string::npos) << flag;
  EXPECT_NE(help.out.find("With --model, --help also lists the flags of the model's family."),
            std::string::npos);
}

TEST(Cli, WrongUse) {
  expect_failure({}, 2, "A subcommand is required; see sagelab --help");
  expect_failure({"paint"}, 2, "unexpected argument paint; see sagelab --help");
  expect_failure({"generate", "--prompt", "p"}, 2, "no model is named; give --model a diffusers folder");
  expect_failure({"generate", "--frobnicate", "3"}, 2,
                 "unknown flag --frobnicate; see sagelab generate --help");
  expect_failure({"generate", "--model"}, 2, "--model: 1 required TEXT missing; see sagelab generate --help");
  expect_failure({"generate", "--steps", "many"}, 2,
                 "Could not convert: --steps = many; see sagelab generate --help");
  expect_failure({"bench"}, 2, "A subcommand is required; see sagelab bench --help");
  expect_failure({"bench", "model", "--family", "paint", "--variant", "1", "--random-weights"}, 2,
                 "unknown family paint; --family is one of: " + listed(&Family::name));
  expect_failure({"bench", "model", "--family", "cogvideox", "--variant", "9b", "--random-weights"}, 2,
                 "cogvideox has no variant 9b; --variant is one of: 2b, 5b, 1.5");
  expect_failure(
      {"bench", "model", "--family", "cogvideox", "--variant", "5b", "--random-weights", "--device", "tpu"},
      2, "--device: tpu not in {auto,cpu,cuda,cuda:N}; see sagelab bench model --help");
  expect_failure({"bench", "model", "--family", "cogvideox", "--variant", "5b"}, 2,
                 "bench model times random weights and needs no checkpoint; add --random-weights to say so");
  expect_failure({"bench", "vae", "--family", "mochi", "--variant", "1-preview"}, 2,
                 "bench vae times random weights and needs no checkpoint; add --random-weights to say so");
  expect_failure({"bench", "vae", "--family", "mochi", "--variant", "1-preview", "--tiling", "some"}, 2,
                 "--tiling: some not in {off,on}; see sagelab bench vae --help");
}

TEST(Cli, AModelThatIsNotThereComesBeforeItsFlags) {
  expect_failure({"generate", "--model", "/nowhere", "--prompt", "p", "--use-dynamic-cfg"}, 1,
                 "/nowhere: no such model folder; give a folder saved by diffusers' save_pretrained, with "
                 "model_index.json in it");
}

TEST(Cli, UnknownClass) {
  const TempFolder folder;
  write_file(folder / "model_index.json", R"({"_class_name": "PaintPipeline"})");
  const auto said = (folder / "model_index.json").string() +
                    ": _class_name \"PaintPipeline\" is not supported; known: " + listed(&Family::class_name);
  expect_failure({"generate", "--model", folder.path(), "--prompt", "p"}, 1, said);
  expect_failure({"info", "--model", folder.path()}, 1, said);
}

TEST(Cli, InfoTellsBackendsWithReasons) {
  const auto table = run_sagelab({"info"});
  EXPECT_EQ(table.exit_code, 0);
  EXPECT_EQ(table.err, "");
  EXPECT_NE(table.out.find("attention by default: sdpa"), std::string::npos) << table.out;
  const auto json = nlohmann::json::parse(run_sagelab({"info", "--json"}).out);
  const auto& cpu = json.at("devices").at(0);
  EXPECT_EQ(cpu.at("device"), "cpu");
  EXPECT_GT(cpu.at("total_bytes"), 0);
  std::map<std::string, std::string> reasons;
  for (const auto& backend : cpu.at("backends"))
    reasons[backend.at("spec").get<std::string>()] = backend.at("unsupported").get<std::string>();
  EXPECT_EQ(reasons.at("reference"), "");
  EXPECT_EQ(reasons.at("sdpa(math)"), "");
  EXPECT_NE(reasons.at("sdpa(cudnn)"), "");
  EXPECT_EQ(json.at("families").at(0).at("name"), "cogvideox");
}

}  // namespace
}  // namespace sagelab
