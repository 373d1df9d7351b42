// SPDX-License-Identifier: Apache-2.0
// More of what the tests of joint transformers share: half precision, random weights, quantized attention.
#pragma once

#include <memory>
#include <tuple>

#include "pipelines/common/weights/random_model.h"
#include "tests/support/transformer_parity.h"

namespace sagelab::testing {

// Against the fp32 truth, half precision loses no more here than in diffusers on the same device. run_on: the
// output of a forward there.
template <class RunOn>
void expect_half_precision_loses_no_more(const Dump& dump, const RunOn& run_on) {
  for (const auto& [key, device, dtype] : {std::tuple{"bf16.cpu", at::kCPU, at::kBFloat16},
                                           {"fp16.cpu", at::kCPU, at::kHalf},
                                           {"bf16.cuda", at::kCUDA, at::kBFloat16},
                                           {"fp16.cuda", at::kCUDA, at::kHalf}}) {
    if (device == at::kCUDA && !at::hasCUDA()) continue;
    const at::Tensor output = run_on(Target{device, dtype});
    EXPECT_EQ(output.scalar_type(), dtype);
    EXPECT_EQ(output.device().type(), device);
    expect_no_more_loss(output, dump, key);
  }
}

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
