// SPDX-License-Identifier: Apache-2.0
#include "pipelines/cogvideox/transformer.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stop_token>

#include "attention/error.h"
#include "attention/registry.h"
#include "tests/support/parity.h"

namespace sagelab::cogvideox {
namespace {

using sagelab::testing::Dump;
using sagelab::testing::fixture;
using sagelab::testing::matches;
using sagelab::testing::relative_l2;

constexpr double kBound = 2e-6;
constexpr const char* kStem = "diffusion_pytorch_model";

// Refuses every way in but the joint call, and notes where the calls came from.
class JointOnly final : public attention::Backend {
 public:
  std::string name() const override { return "joint-only"; }
  std::string unsupported(const attention::Problem&) const override { return {}; }
  attention::Output run(const attention::Call&, attention::Recorder&) const override {
    throw std::logic_error("attention beside run_joint");
  }
  void run_joint(const attention::JointCall& call, attention::Recorder& recorder) const override {
    sites.push_back(call.site);
    segments.push_back(call.segments.size());
    inner->run_joint(call, recorder);
  }
  attention::BackendPtr inner = attention::make_backend("sdpa");
  mutable std::vector<attention::Site> sites;
  mutable std::vector<size_t> segments;
};

struct Model {
  TransformerConfig config;
  std::vector<std::pair<std::string, std::vector<int64_t>>> read;
  Transformer transformer;

  static Model open(const std::filesystem::path& folder, Target target = {}) {
    Config file(folder / "config.json");
    const TransformerConfig config(file);
    const Weights w(open_folder(folder, kStem), target);
    Transformer transformer(w, config);
    w.require_all_read();
    return {config, w.requested(), std::move(transformer)};
  }
};

struct Inputs {
  at::Tensor latents, text, t;
  attention::Rope rope;
};

Inputs inputs_of(const Dump& dump, const std::string& prefix, const TransformerConfig& config,
                 Target target = {}) {
  const auto moved = [&](const char* name) { return dump[prefix + name].to(target.device, target.dtype); };
  Inputs in{moved("latents"), moved("text"), dump[prefix + "t"], {}};
  in.rope = rope_table(config, {in.text.size(1), in.latents.size(1), in.latents.size(3), in.latents.size(4)},
                       target.device);
  return in;
}

at::Tensor run(const Model& model, const Inputs& in,
               std::function<void(const std::string&, const at::Tensor&)> observe = {}) {
  const auto backend = attention::make_backend("sdpa");
  attention::Recorder recorder;
  return model.transformer(in.latents, in.text, in.t, in.rope, {*backend, recorder, {}, {}, observe});
}

class TransformerParity : public ::testing::TestWithParam<const char*> {
 protected:
  std::filesystem::path folder() const { return fixture("cogvideox", GetParam()) / "model" / "transformer"; }
  const Dump dump_{fixture("cogvideox", GetParam()) / "dump.safetensors"};
};

TEST_P(TransformerParity, EveryStage) {
  const Model model = Model::open(folder());
  std::map<std::string, at::Tensor> stages;
  const at::Tensor output = run(model, inputs_of(dump_, "forward.", model.config),
                                [&](const auto& name, const auto& value) { stages[name] = value; });
  std::vector<std::string> names = {"temb", "patch_embed"};
  for (int64_t i = 0; i < model.config.layers; ++i) names.push_back(fmt::format("block.{}", i));
  for (const auto& name : names) {
    ASSERT_TRUE(stages.count(name)) << name << " was not observed";
    EXPECT_TRUE(matches(stages[name], dump_, "forward." + name, kBound));
    RecordProperty(name, fmt::format("{:.2e}", relative_l2(stages[name], dump_["forward." + name])));
  }
  EXPECT_FALSE(dump_.has(fmt::format("forward.block.{}", model.config.layers)));
  EXPECT_TRUE(matches(output, dump_, "forward.output", kBound));
  RecordProperty("output", fmt::format("{:.2e}", relative_l2(output, dump_["forward.output"])));
  ASSERT_TRUE(stages.count("proj_out"));
  EXPECT_EQ(stages["proj_out"].numel(), output.numel());
}

TEST_P(TransformerParity, ABatchOfOneIsARowOfTwo) {
  const Model model = Model::open(folder());
  const Inputs in = inputs_of(dump_, "forward.", model.config);
  const at::Tensor both = run(model, in);
  for (int64_t row = 0; row < 2; ++row) {
    const Inputs one{in.latents.narrow(0, row, 1), in.text.narrow(0, row, 1), in.t.narrow(0, row, 1),
                     in.rope};
    EXPECT_LE(relative_l2(run(model, one), both.narrow(0, row, 1)), kBound) << "row " << row;
  }
}

TEST_P(TransformerParity, TheSameCallGivesTheSameBits) {
  const Model model = Model::open(folder());
  const Inputs in = inputs_of(dump_, "forward.", model.config);
  EXPECT_TRUE(at::equal(run(model, in), run(model, in)));
}

TEST_P(TransformerParity, EveryBlockIsOneJointCallOfOneSegment) {
  const Model model = Model::open(folder());
  const Inputs in = inputs_of(dump_, "forward.", model.config);
  const JointOnly backend;
  attention::Recorder recorder;
  attention::Site site;
  site.step = 3;
  site.steps = 7;
  site.branch = attention::Branch::Both;
  const at::Tensor output =
      model.transformer(in.latents, in.text, in.t, in.rope, {backend, recorder, site, {}});
  EXPECT_TRUE(matches(output, dump_, "forward.output", kBound));
  ASSERT_EQ(backend.sites.size(), size_t(model.config.layers));
  EXPECT_THAT(backend.segments, ::testing::Each(1u));
  for (size_t i = 0; i < backend.sites.size(); ++i) {
    const attention::Site& at = backend.sites[i];
    EXPECT_EQ(at.layer, int(i));
    EXPECT_EQ(at.call, int(i));
    EXPECT_EQ(at.layers, int(model.config.layers));
    EXPECT_EQ(at.block, "block");
    EXPECT_EQ(at.step, 3);
    EXPECT_EQ(at.steps, 7);
    EXPECT_EQ(at.branch, attention::Branch::Both);
  }
  int64_t calls = 0;
  for (const auto& [name, served] : recorder.served()) calls += served.calls;
  EXPECT_EQ(calls, model.config.layers);
}

TEST_P(TransformerParity, StopsBetweenBlocks) {
  const Model model = Model::open(folder());
  const Inputs in = inputs_of(dump_, "forward.", model.config);
  const auto backend = attention::make_backend("sdpa");
  attention::Recorder recorder;
  std::stop_source stop;
  std::string last;
  const auto observe = [&](const std::string& name, const at::Tensor&) {
    last = name;
    if (name == "block.0") stop.request_stop();
  };
  EXPECT_THROW(model.transformer(in.latents, in.text, in.t, in.rope,
                                 {*backend, recorder, {}, stop.get_token(), observe}),
               Cancelled);
  EXPECT_EQ(last, "block.0");
}

// Against the fp32 truth, half precision loses no more here than in diffusers on the same device.
TEST_P(TransformerParity, HalfPrecisionLosesNoMoreThanDiffusers) {
  const Dump theirs(fixture("cogvideox_half", std::string(GetParam()) + ".safetensors"));
  const at::Tensor truth = dump_["forward.output"];
  for (const auto& [key, device, dtype] : {std::tuple{"bf16.cpu", at::kCPU, at::kBFloat16},
                                           {"fp16.cpu", at::kCPU, at::kHalf},
                                           {"bf16.cuda", at::kCUDA, at::kBFloat16},
                                           {"fp16.cuda", at::kCUDA, at::kHalf}}) {
    if (device == at::kCUDA && !at::hasCUDA()) continue;
    const Model model = Model::open(folder(), {device, dtype});
    const at::Tensor output = run(model, inputs_of(dump_, "forward.", model.config, {device, dtype}));
    EXPECT_EQ(output.scalar_type(), dtype);
    EXPECT_EQ(output.device().type(), device);
    const double error = relative_l2(output, truth), allowed = 1.1 * relative_l2(theirs[key], truth);
    EXPECT_LE(error, allowed) << key;
    EXPECT_GT(error, allowed / 4) << key << " cannot be this exact: what ran was something else";
    RecordProperty(key, fmt::format("{:.3f}", error / allowed * 1.1));
  }
}

// What the constructor asks for on the meta device is what the file holds.
TEST_P(TransformerParity, NamesAndShapesOnMetaAreTheFiles) {
  Config file(folder() / "config.json");
  const TransformerConfig config(file);
  const Weights w(shape_source(), {at::kMeta, at::kFloat});
  const Transformer transformer(w, config);
  std::vector<std::pair<std::string, std::vector<int64_t>>> stored;
  for (const TensorInfo& info : list_folder(folder(), kStem)) stored.emplace_back(info.key, info.shape);
  EXPECT_EQ(w.requested(), stored);
}

INSTANTIATE_TEST_SUITE_P(Fixtures, TransformerParity,
                         ::testing::Values("2b", "5b", "1.5", "long_even", "long_odd", "odd_config"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '.', '_');
                           return "of_" + name;
                         });

class SwitchParity : public ::testing::TestWithParam<const char*> {};

// "shorter" has fewer frames than the config: a table is then made anew.
TEST_P(SwitchParity, BothLengths) {
  const std::filesystem::path folder = fixture("cogvideox_positions", GetParam());
  const Dump dump(folder / "dump.safetensors");
  const Model model = Model::open(folder);
  for (const std::string name : {"own", "shorter"}) {
    const at::Tensor output = run(model, inputs_of(dump, name + ".", model.config));
    EXPECT_TRUE(matches(output, dump, name + ".output", kBound));
  }
}

// Outputs of diffusers' model with one thing wrong about the switch (positions.py).
TEST_P(SwitchParity, EveryMutantIsToldApart) {
  const std::filesystem::path folder = fixture("cogvideox_positions", GetParam());
  const Dump dump(folder / "dump.safetensors");
  const Model model = Model::open(folder);
  int mutants = 0;
  for (const std::string name : {"own", "shorter"}) {
    const at::Tensor ours = run(model, inputs_of(dump, name + ".", model.config));
    const double allowed = sagelab::testing::tolerance(dump, name + ".output", kBound);
    for (const auto& [key, wrong] : dump.tensors()) {
      if (!key.starts_with(name + ".output|")) continue;
      EXPECT_GT(relative_l2(ours, wrong), 10 * allowed) << key;
      ++mutants;
    }
  }
  EXPECT_GE(mutants, 4);
}

INSTANTIATE_TEST_SUITE_P(Switches, SwitchParity,
                         ::testing::Values("learned", "geglu", "geglu-approximate", "swiglu", "linear-silu",
                                           "patches_of_1", "patches_of_3_frames"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const c10::Error& e) {
    return e.what_without_backtrace();
  } catch (const std::exception& e) {
    return e.what();
  }
  return "nothing was thrown";
}

TransformerConfig config_of(nlohmann::json values) {
  Config config(std::move(values), "config.json");
  return TransformerConfig(config);
}

TEST(TransformerInputs, WrongShapesAreNamed) {
  const std::filesystem::path folder = fixture("cogvideox", "1.5");
  const Dump dump(folder / "dump.safetensors");
  const Model model = Model::open(folder / "model" / "transformer");
  const Inputs in = inputs_of(dump, "forward.", model.config);
  const auto message = [&](const at::Tensor& latents, const at::Tensor& text, const at::Tensor& t,
                           const attention::Rope& rope) {
    return message_of([&] { run(model, {latents, text, t, rope}); });
  };
  const auto latents = in.latents.sizes();
  EXPECT_THAT(message(in.latents.narrow(1, 0, 3), in.text, in.t, in.rope),
              ::testing::HasSubstr(fmt::format(
                  "latents of 3 x {} x {} do not divide into patches of 2 x 2 x 2", latents[3], latents[4])));
  EXPECT_THAT(message(in.latents.narrow(2, 0, 5), in.text, in.t, in.rope),
              ::testing::HasSubstr("latents should be [B, T, 16, h, w], not [2, 4, 5,"));
  EXPECT_THAT(message(in.latents, in.text.narrow(0, 0, 1), in.t, in.rope),
              ::testing::HasSubstr("text should be [2, L, 32], not [1, 226, 32]"));
  EXPECT_THAT(message(in.latents, in.text, in.t.narrow(0, 0, 1), in.rope),
              ::testing::HasSubstr("t should be [2], not [1]"));
  EXPECT_THAT(message(in.latents, in.text.to(at::kHalf), in.t, in.rope),
              ::testing::HasSubstr("text is Half, latents are Float"));
  EXPECT_THAT(message(in.latents, in.text, in.t, {}), ::testing::HasSubstr("rope should be rope_table's"));
}

TEST(TransformerFlops, AreThoseOfTheReleasedModels) {
  const auto config_2b = config_of(nlohmann::json::object());
  const auto config_5b = config_of(
      {{"num_attention_heads", 48}, {"num_layers", 42}, {"use_rotary_positional_embeddings", true}});
  const auto config_15 = config_of({{"num_attention_heads", 48},
                                    {"num_layers", 42},
                                    {"patch_size_t", 2},
                                    {"sample_height", 300},
                                    {"sample_width", 300},
                                    {"use_rotary_positional_embeddings", true}});
  EXPECT_NEAR(flops(config_2b, {226, 13, 60, 90}), 120.0e12, 0.2e12);
  EXPECT_NEAR(flops(config_5b, {226, 13, 60, 90}), 332.2e12, 0.2e12);
  EXPECT_NEAR(flops(config_15, {226, 22, 96, 170}), 1479.2e12, 0.3e12);
}

}  // namespace
}  // namespace sagelab::cogvideox
