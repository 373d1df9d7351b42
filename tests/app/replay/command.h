// SPDX-License-Identifier: Apache-2.0
// Short runs of the real binary on a tiny model that diffusers saved.
#pragma once

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/app/program.h"

namespace sagelab::testing {

using nlohmann::json;

inline const fs::path kModel = fs::path(SAGELAB_FIXTURES) / "cogvideox/2b/model";

class ShortRuns : public ::testing::Test {
 protected:
  TempFolder folder_;

  std::string at(const std::string& name) const { return (folder_ / name).string(); }
  std::vector<std::string> command(const std::string& name, std::vector<std::string> more,
                                   const fs::path& model = kModel) const {
    std::vector<std::string> all{name,      "--model", model,      "--prompt", "A fox — 日の出.",
                                 "--width", "32",      "--height", "32",       "--num-frames",
                                 "5",       "--steps", "4",        "--device", "cpu",
                                 "--seed",  "5"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  void generate(std::vector<std::string> more, const fs::path& model = kModel) const {
    const auto result = run_sagelab(command("generate", std::move(more), model));
    ASSERT_EQ(result.exit_code, 0) << result.err;
  }
  static ProgramResult replay(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "replay");
    return run_sagelab(arguments);
  }
  json stored(const std::string& folder) const {
    return json::parse(read_file(folder_ / folder / "request.json"));
  }
};

}  // namespace sagelab::testing
