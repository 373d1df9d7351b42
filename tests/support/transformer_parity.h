// SPDX-License-Identifier: Apache-2.0
// What the tests of joint transformers share: fixtures, calls, and the checks that do not know the model.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "attention/joint.h"
#include "attention/registry.h"
#include "pipelines/core/config.h"
#include "pipelines/core/weights.h"
#include "pipelines/run.h"
#include "tests/support/parity.h"

namespace sagelab::testing {

inline constexpr const char* kStem = "diffusion_pytorch_model";
inline constexpr double kBound = 2e-6;

template <class ModelConfig>
ModelConfig config_in(const std::filesystem::path& folder) {
  Config file(folder / "config.json");
  return ModelConfig(file);
}

template <class Model, class ModelConfig>
Model open_model(const std::filesystem::path& folder, const Target& target) {
  const Weights w(open_folder(folder, kStem), target);
  Model model(w, config_in<ModelConfig>(folder));
  w.require_all_read();
  return model;
}

using Observe = std::function<void(const std::string&, const at::Tensor&)>;

template <class Model, class Inputs>
at::Tensor run(const Model& model, const Inputs& in, Observe observe = {}, const std::string& spec = "sdpa") {
  const auto backend = attention::make_backend(spec);
  attention::Recorder recorder;
  return model(in, {*backend, recorder, {}, {}, std::move(observe)});
}

// Every stage of those names, the output among them, and no other.
template <class Model, class Inputs>
void expect_stages(const Model& model, const Inputs& in, const Dump& dump, std::vector<std::string> names) {
  std::map<std::string, at::Tensor> stages;
  const at::Tensor output =
      run(model, in, [&](const auto& name, const auto& value) { stages[name] = value; });
  EXPECT_EQ(stages.size(), names.size());
  stages["output"] = output;
  names.emplace_back("output");
  for (const auto& name : names) {
    ASSERT_TRUE(stages.count(name)) << name << " was not observed";
    EXPECT_TRUE(matches(stages[name], dump, name, kBound));
  }
}

// A stop that is asked for when a block is done ends the forward there.
template <class Model, class Inputs>
void expect_stop_after(const std::string& block, const Model& model, const Inputs& in) {
  const auto backend = attention::make_backend("sdpa");
  attention::Recorder recorder;
  std::stop_source stop;
  std::string last;
  const auto observe = [&](const std::string& name, const at::Tensor&) {
    last = name;
    if (name == block) stop.request_stop();
  };
  EXPECT_THROW(model(in, {*backend, recorder, {}, stop.get_token(), observe}), Cancelled);
  EXPECT_EQ(last, block);
}

// Against the fp32 truth, half precision loses no more than diffusers on the same device does.
inline void expect_no_more_loss(const at::Tensor& output, const Dump& dump, const std::string& key) {
  const double error = relative_l2(output, dump["output"]);
  const double allowed = 1.1 * relative_l2(dump[key], dump["output"]);
  EXPECT_LE(error, allowed) << key;
  EXPECT_GT(error, allowed / 4) << key << " cannot be this exact: what ran was something else";
}

// What the constructor asks for on the meta device.
template <class Model, class ModelConfig>
std::vector<std::pair<std::string, std::vector<int64_t>>> asked_for(const ModelConfig& config) {
  const Weights w(shape_source(), {at::kMeta, at::kFloat});
  const Model model(w, config);
  return w.requested();
}

inline std::vector<std::pair<std::string, std::vector<int64_t>>> stored_in(
    const std::filesystem::path& folder) {
  std::vector<std::pair<std::string, std::vector<int64_t>>> stored;
  for (const TensorInfo& info : list_folder(folder, kStem)) stored.emplace_back(info.key, info.shape);
  return stored;
}

// What a forward says of inputs that do not fit.
template <class Model, class Inputs>
std::string complaint(const Model& model, Inputs in, const std::function<void(Inputs&)>& spoil) {
  spoil(in);
  try {
    run(model, in);
  } catch (const c10::Error& e) {
    return e.what_without_backtrace();
  }
  return "nothing was thrown";
}

}  // namespace sagelab::testing
