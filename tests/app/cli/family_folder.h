// SPDX-License-Identifier: Apache-2.0
// The real binary on a genuine folder of any family: the flags of the call that its dumps were made with.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "tests/app/program.h"
#include "tests/support/parity.h"

namespace sagelab::testing {

struct FamilyFolder {
  const char* family;
  const char* folder;  // of the fixtures
  const char* mode;    // of the dumps: that of the whole request
  fs::path path() const { return fs::path(SAGELAB_FIXTURES) / folder; }
};

inline void PrintTo(const FamilyFolder& one, std::ostream* out) {
  *out << one.folder;
}

inline std::string family_folder_name(const ::testing::TestParamInfo<FamilyFolder>& info) {
  return info.param.path().parent_path().filename().string() + "_" + info.param.path().filename().string();
}

class OnFamilyFolder : public ::testing::TestWithParam<FamilyFolder> {
 protected:
  using Flags = std::vector<std::string>;

  std::string at(const std::string& name) const { return (folder_ / name).string(); }
  Dump dump() const { return Dump(GetParam().path() / "dump.safetensors"); }

  // A command with a flag for every argument of diffusers' call, but those; and more.
  Flags command(const std::string& name, const Flags& more, const std::set<std::string>& without = {}) const {
    Flags all{name, "--model", model_, "--device", "cpu"};
    for (const auto& [key, value] : request_.items()) {
      std::string flag = key == "num_inference_steps" ? "steps" : key;
      std::replace(flag.begin(), flag.end(), '_', '-');
      std::string text = value.is_string() ? value.get<std::string>() : value.dump();
      if (value.is_array()) text = text.substr(1, text.size() - 2);
      if (text.empty() || without.contains(key)) continue;
      all.insert(all.end(), {"--" + flag, text});
    }
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  Flags generate(const Flags& more) const { return command("generate", more); }

  // 8-bit values [T, H, W, 3]: at least 99.9 % equal, none off by more than one.
  void expect_diffusers_pixels(const at::Tensor& pixels) const {
    const auto theirs = dump()[std::string(GetParam().mode) + ".pixels"].to(at::kInt);
    const auto ours = pixels.to(at::kInt);
    ASSERT_EQ(ours.sizes(), theirs.sizes());
    const auto off = (ours - theirs).abs();
    EXPECT_LE(off.max().item<int>(), 1);
    EXPECT_GE(off.eq(0).to(at::kDouble).mean().item<double>(), 0.999);
  }

  // compare, locked, of sdpa and another exact backend; its report.
  void expect_comparison_with_reference(int64_t frames) const {
    const auto result = run_sagelab(
        command("compare", {"--a", "sdpa", "--b", "reference", "--locked", "--output", at("out/")}));
    ASSERT_EQ(result.exit_code, 0) << result.err;
    const auto report = nlohmann::json::parse(read_file(folder_ / "out/report.json"));
    EXPECT_EQ(report.at("floor").at("identical"), true);
    const auto& b = report.at("runs").at(1);
    EXPECT_EQ(b.at("served"), nlohmann::json::array({"reference"}));
    EXPECT_EQ(b.at("figures").at("locked_latents").size(),
              request_.at("num_inference_steps").template get<size_t>());
    EXPECT_EQ(b.at("figures").at("quality").at("frames"), frames);
    EXPECT_GT(b.at("figures").at("quality").at("ssim").at("worst"), 0.9999) << "both are exact";
  }

  // Neither under a name that transformers 4 or 5 saves, nor a part that a model is without.
  void expect_info_misses_nothing() const {
    const auto result = run_sagelab({"info", "--model", model_, "--json"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    const auto info = nlohmann::json::parse(result.out).at("model");
    EXPECT_EQ(info.at("missing"), nlohmann::json::array());
    EXPECT_EQ(info.at("family"), GetParam().family);
  }

  TempFolder folder_;
  nlohmann::json request_ = nlohmann::json::parse(read_file(GetParam().path() / "request.json"));
  std::string model_ = (GetParam().path() / "model").string();
};

}  // namespace sagelab::testing
