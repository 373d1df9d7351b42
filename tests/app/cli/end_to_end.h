// SPDX-License-Identifier: Apache-2.0
// The real binary on a genuine folder that diffusers saved.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/app/program.h"

namespace sagelab::testing {

using nlohmann::json;

inline const fs::path kFixture = fs::path(SAGELAB_FIXTURES) / "cogvideox" / "5b";

class EndToEnd : public ::testing::Test {
 protected:
  TempFolder folder_;
  json request_ = json::parse(read_file(kFixture / "request.json"));

  std::string at(const std::string& name) const { return (folder_ / name).string(); }

  std::vector<std::string> generate(std::vector<std::string> more) const {
    const auto number = [&](const char* key) { return request_.at(key).dump(); };
    std::vector<std::string> all{"generate",
                                 "--model",
                                 (kFixture / "model").string(),
                                 "--prompt",
                                 request_.at("prompt").get<std::string>(),
                                 "--negative-prompt",
                                 request_.at("negative_prompt").get<std::string>(),
                                 "--width",
                                 number("width"),
                                 "--height",
                                 number("height"),
                                 "--num-frames",
                                 number("num_frames"),
                                 "--steps",
                                 number("steps"),
                                 "--guidance-scale",
                                 number("guidance_scale"),
                                 "--seed",
                                 number("seed"),
                                 "--device",
                                 "cpu",
                                 "--scheduler",
                                 "ddim"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
};

}  // namespace sagelab::testing
