// SPDX-License-Identifier: Apache-2.0
// What Llama takes beside its weights, where it weighs more than a tiny folder's.
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include "pipelines/common/text_memory.h"
#include "pipelines/common/weights/random_model.h"
#include "pipelines/hunyuanvideo/prompts/prompts.h"
#include "tests/support/memory_meter.h"

namespace sagelab::hunyuanvideo {
namespace {

struct Shape {
  int64_t hidden, intermediate, heads, kv_heads;
  at::ScalarType dtype;
};

class LlamaMemory : public ::testing::TestWithParam<Shape> {};

TEST_P(LlamaMemory, IsForetold) {
  const c10::InferenceMode inference;
  const Shape& s = GetParam();
  Config file({{"vocab_size", 50},
               {"hidden_size", s.hidden},
               {"intermediate_size", s.intermediate},
               {"num_hidden_layers", 2 + kSkippedLayers},
               {"num_attention_heads", s.heads},
               {"num_key_value_heads", s.kv_heads}},
              "config.json");
  const LlamaConfig config(file);
  const Target target{at::kCPU, s.dtype};
  const LlamaEncoder encoder(Weights(random_source(0), target), config, kSkippedLayers);
  for (const int64_t rows : {kTemplateRows + 8, kTemplateRows + 256}) {
    const at::Tensor ids = at::arange(rows).remainder(50).unsqueeze(0);
    encoder(ids);  // what a first run keeps
    const int64_t used = testing::peak_bytes_of([&] { encoder(ids); });
    EXPECT_NEAR(double(llama_encode_bytes(config, rows, target)) / double(used), 1, 0.1) << used;
  }
}

// Heads that are grouped, as released, and that are not; a feed-forward that weighs less.
INSTANTIATE_TEST_SUITE_P(HunyuanVideo, LlamaMemory,
                         ::testing::Values(Shape{512, 1792, 4, 1, at::kFloat},
                                           Shape{512, 1792, 4, 1, at::kBFloat16},
                                           Shape{384, 1024, 6, 6, at::kFloat},
                                           Shape{512, 256, 8, 2, at::kFloat},
                                           Shape{512, 256, 8, 8, at::kFloat}));

}  // namespace
}  // namespace sagelab::hunyuanvideo
