// SPDX-License-Identifier: Apache-2.0
// CogVideoX-2B at its released size, from shards, beside diffusers: what no tiny checkpoint can show.
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include "attention/registry.h"
#include "pipelines/cogvideox/plan.h"
#include "pipelines/cogvideox/transformer.h"
#include "pipelines/cogvideox/vae/decoder.h"
#include "tests/support/parity.h"

namespace sagelab::cogvideox {
namespace {

using sagelab::testing::Dump;
using sagelab::testing::matches;
using sagelab::testing::matches_within;

constexpr const char* kStem = "diffusion_pytorch_model";

class FullSize : public ::testing::Test {
 protected:
  const std::filesystem::path folder_ = std::filesystem::path(SAGELAB_FIXTURES) / "cogvideox_full_size";
  const Dump dump_{folder_ / "dump.safetensors"};

 private:
  c10::InferenceMode inference_;
};

TEST_F(FullSize, TransformerMatchesDiffusers) {
  Config file(folder_ / "transformer" / "config.json");
  const TransformerConfig config(file);
  const Weights weights(open_folder(folder_ / "transformer", kStem), {});
  const Transformer transformer(weights, config);
  weights.require_all_read();
  std::map<std::string, at::Tensor> stages;
  const auto backend = attention::make_backend("sdpa");
  attention::Recorder recorder;
  const auto observe = [&](const std::string& name, const at::Tensor& value) {
    stages[name] = value.clone();
  };
  const at::Tensor output = transformer(dump_["forward.latents"], dump_["forward.text"], dump_["forward.t"],
                                        {}, {*backend, recorder, {}, {}, observe});
  for (const char* name : {"block.0", "block.14", "block.29"}) {
    EXPECT_TRUE(matches(stages[name], dump_, std::string("forward.") + name, 2e-6));
  }
  EXPECT_TRUE(matches(output, dump_, "forward.output", 2e-6));
}

TEST_F(FullSize, VaeMatchesDiffusers) {
  Config file(folder_ / "vae" / "config.json");
  const Weights weights(open_folder(folder_ / "vae", kStem), {});
  const VaeDecoder vae(weights, VaeConfig(file));
  weights.require_all_read(component_in(component_table(), "vae").unread);  // waits for the data, too
  EXPECT_TRUE(matches_within(vae.decode(dump_["vae.z"], false), dump_, "vae.sample", 5e-6));
}

}  // namespace
}  // namespace sagelab::cogvideox
