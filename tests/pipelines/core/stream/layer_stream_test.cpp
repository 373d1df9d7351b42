// SPDX-License-Identifier: Apache-2.0
// Blocks that take turns in two slots compute what they compute when each has its own memory.
#include "pipelines/core/stream/layer_stream.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <stdexcept>

#include "attention/error.h"
#include "pipelines/core/safetensors.h"
#include "tests/pipelines/core/files.h"
#include "tests/pipelines/core/stream/chain.h"

namespace sagelab::testing {
namespace {

const Target kHeld{at::kCPU, at::kFloat}, kStreamed{at::kCPU, at::kFloat, true};

TEST(LayerStream, SameBitsRunAfterRun) {
  for (const int64_t layers : {0, 1, 2, 3, 4, 5, 8}) {
    SCOPED_TRACE(layers);
    const Chain held = chain_of(layers, kHeld), streamed = chain_of(layers, kStreamed);
    EXPECT_EQ(held.stream(), nullptr);
    ASSERT_NE(streamed.stream(), nullptr);
    const at::Tensor x = input_of(kHeld), expected = held(x);
    for (int run = 0; run < 3; ++run) EXPECT_TRUE(at::equal(streamed(x), expected)) << "run " << run;
  }
}

// Two blocks stay where they are; of more, each is copied once a forward, the first two of the next one
// ahead.
TEST(LayerStream, CopiesEachBlockOnceAForward) {
  for (const int64_t layers : {1, 2, 4, 5}) {
    const Chain chain = chain_of(layers, kStreamed);
    const at::Tensor x = input_of(kStreamed);
    for (int64_t run = 1; run <= 3; ++run) {
      chain(x);
      // An odd number of blocks leaves one slot to the same block twice a forward.
      const int64_t moving = layers <= 2 ? 0 : layers;
      EXPECT_EQ(chain.stream()->copies(), layers <= 2 ? layers : run * moving + 2)
          << layers << ", run " << run;
    }
  }
}

TEST(LayerStream, TheBlockThatComputesIsWholeAndTheNextOneIsOnItsWay) {
  const Chain held = chain_of(5, kHeld), streamed = chain_of(5, kStreamed);
  int64_t seen = 0;
  streamed(input_of(kStreamed), [&](int64_t layer) {
    for (int64_t there = layer; there <= std::min<int64_t>(layer + 1, 4); ++there) {
      const auto &ours = streamed.block(there), &theirs = held.block(there);
      EXPECT_TRUE(at::equal(ours.in.weight, theirs.in.weight)) << there << " in layer " << layer;
      EXPECT_TRUE(at::equal(ours.in.bias, theirs.in.bias)) << there << " in layer " << layer;
      EXPECT_TRUE(at::equal(ours.out.weight, theirs.out.weight)) << there << " in layer " << layer;
      ++seen;
    }
  });
  EXPECT_EQ(seen, 9);
}

TEST(LayerStream, AForwardThatIsGivenUpIsFollowedByAWholeOne) {
  for (const int64_t last : {0, 1, 2, 4}) {
    const Chain held = chain_of(5, kHeld), streamed = chain_of(5, kStreamed);
    const at::Tensor x = input_of(kHeld), expected = held(x);
    const auto stop = [&](int64_t layer) {
      if (layer == last) throw std::runtime_error("stop");
    };
    EXPECT_THROW(streamed(x, stop), std::runtime_error);
    EXPECT_TRUE(at::equal(streamed(x), expected)) << "given up in layer " << last;
  }
}

TEST(LayerStream, LayersMayBeLeftOut) {
  const Chain held = chain_of(6, kHeld), streamed = chain_of(6, kStreamed);
  const at::Tensor x = input_of(kHeld);
  for (const std::vector<int64_t>& skip :
       {std::vector<int64_t>{2}, {0}, {5}, {1, 2}, {0, 1, 2, 3}, {0, 1, 2, 3, 4, 5}, {}})
    EXPECT_TRUE(at::equal(streamed(x, {}, skip), held(x, {}, skip))) << skip.size();
}

// Two slots of the largest block and what is no block; on the meta device likewise, and no value is read.
TEST(LayerStream, WhatItTakesOfTheDevice) {
  const auto bytes_of = [](Target target, int64_t layers) {
    const Weights w(random_source(7), target);
    const Chain chain(w, layers, 32, 48);
    return w.bytes();
  };
  constexpr int64_t kLayers = 6, kPlace = 512;
  const auto padded = [](int64_t bytes) { return (bytes + kPlace - 1) / kPlace * kPlace; };
  const int64_t width = 48 + 16 * (kLayers - 1), ends = 4 * (32 * 32 + 32);
  const int64_t largest =
      padded(4 * width * 32) + padded(4 * width) + padded(4 * 32 * width) + padded(4 * 32);
  EXPECT_EQ(bytes_of({at::kMeta, at::kFloat, true}, kLayers), ends + 2 * largest);
  EXPECT_EQ(bytes_of(kStreamed, kLayers), ends + 2 * largest);
  EXPECT_GT(bytes_of(kHeld, kLayers), ends + 2 * largest);
  const Chain chain = chain_of(kLayers, kStreamed);
  EXPECT_TRUE(chain.block(0).in.weight.is_alias_of(chain.block(4).out.bias));
  EXPECT_FALSE(chain.block(0).in.weight.is_alias_of(chain.block(5).in.weight));
}

// 8 bits and their scales move with the rest, stacked ones too; so do views that a constructor takes.
TEST(LayerStream, EightBitsAndStackedRows) {
  const Folder folder;
  std::map<std::string, at::Tensor> tensors;
  at::manual_seed(1);
  for (int layer = 0; layer < 3; ++layer)
    for (const char* name : {"q", "k", "out"}) {
      const std::string key = "blocks." + std::to_string(layer) + "." + name;
      tensors[key + ".weight"] = at::randn({16, 16}).to(at::kFloat8_e4m3fn);
      tensors[key + ".scale_weight"] = at::rand({1}) + 0.5;
      tensors[key + ".bias"] = at::randn({16});
    }
  write_safetensors(folder / "model.safetensors", tensors);
  const auto outputs = [&](const Target& target) {
    const Weights w(open_folder(folder.path(), "model"), target);
    std::vector<std::pair<Linear, Linear>> blocks(3);
    const auto stream = LayerStream::make(w, 3, [&](const Weights& from, int64_t layer) {
      constexpr std::string_view kNames[] = {"q", "k"};
      constexpr int64_t kOuts[] = {16, 16};
      const Weights block = from / "blocks" / layer;
      blocks[size_t(layer)] = {block.stacked(kNames, kOuts, 16), block.linear("out", 16, 16)};
      Linear& out = blocks[size_t(layer)].second;
      out.weight = out.weight.view({4, 4, 16}).view({16, 16});
    });
    w.require_all_read();
    std::vector<at::Tensor> all;
    for (int run = 0; run < 2; ++run) {
      LayerStream::Pass pass(stream.get());
      at::Tensor x = at::ones({1, 2, 16});
      for (int64_t layer = 0; layer < 3; ++layer) {
        pass.enter(layer);
        const auto& [qk, out] = blocks[size_t(layer)];
        EXPECT_EQ(qk.weight.scalar_type(), at::kFloat8_e4m3fn);
        EXPECT_EQ(out.scale.sizes(), at::IntArrayRef({16}));
        x = out(qk(x).narrow(2, layer, 16));
      }
      all.push_back(x);
    }
    return all;
  };
  const auto held = outputs(kHeld), streamed = outputs(kStreamed);
  EXPECT_GT(held[0].abs().max().item<float>(), 0);
  for (size_t run = 0; run < 2; ++run) EXPECT_TRUE(at::equal(held[run], streamed[run])) << run;
}

TEST(LayerStream, ALayerThatIsNotThereIsRefused) {
  const Chain chain = chain_of(3, kStreamed);
  LayerStream::Pass pass(const_cast<LayerStream*>(chain.stream()));
  EXPECT_THROW(pass.enter(3), c10::Error);
}

}  // namespace
}  // namespace sagelab::testing
