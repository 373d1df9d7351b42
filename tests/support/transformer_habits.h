// SPDX-License-Identifier: Apache-2.0
// More of what the tests of joint transformers share: random weights, quantized attention.
#pragma once

#include <memory>

#include "pipelines/common/weights/random_model.h"
#include "tests/support/transformer_parity.h"

namespace sagelab::testing {

// In bf16, as benches run them. inputs_for: of a target.
template <class Model, class ModelConfig, class InputsFor>
void expect_random_weights_run(const ModelConfig& config, const Dump& dump, const InputsFor& inputs_for) {
  const Target target{at::kCPU, at::kBFloat16};
  const at::Tensor output = run(*random_model<Model>(config, target), inputs_for(target));
  EXPECT_EQ(output.sizes(), dump["output"].sizes());
  EXPECT_TRUE(output.isfinite().all().template item<bool>());
  EXPECT_GT(output.to(at::kFloat).std().template item<double>(), 0.1);
}

// Our own attention, which takes heads of 64 and 128: on the CPU its arithmetic, step by step.
template <class Model, class Inputs>
void expect_quantized_attention_is_near(const Model& model, const Inputs& in, const Dump& dump) {
  const double error = relative_l2(run(model, in, {}, "sage2"), dump["output"]);
  EXPECT_LE(error, 5e-2);
  EXPECT_GT(error, 1e-4) << "nothing was quantized";
}

}  // namespace sagelab::testing
