// SPDX-License-Identifier: Apache-2.0
// The layers of MochiDecoder3D on one chunk of latent frames. Tensors are [1, C, T, H, W].
#pragma once

#include <string>
#include <vector>

#include "pipelines/mochi/vae/decoder.h"
#include "pipelines/video/causal_conv.h"
#include "pipelines/video/conv.h"

namespace sagelab::mochi {

// Latent frames that go through the decoder together: diffusers' num_latent_frames_batch_size. In any number
// the result is the same: only the memory differs.
constexpr int64_t kChunk = 2;

// One chunk on its way through the decoder.
struct Pass {
  // By convolution: the last frames of its input, margins and all, which the next chunk has in front. The
  // first chunk has its first frame there.
  std::vector<at::Tensor>* caches;
  bool last;        // no chunk follows: nothing is kept
  int64_t skipped;  // frames in front that nobody wants
  const VaeRun* run;

  void observe(const std::string& name, const at::Tensor& value) const {
    if (run->observe) run->observe(name, value);
  }
};

// A causal convolution that goes on from the chunk before.
struct CachedConv {
  CausalConv3d conv;
  size_t slot;
  CachedConv(const Weights& w, int64_t channels, size_t& slots);
  // padded: an input with room for its margins, which are filled here.
  at::Tensor operator()(at::Tensor padded, const Pass& pass) const;
};

struct Resnet {
  GroupNorm norm1, norm2;
  CachedConv conv1, conv2;
  Resnet(const Weights& w, int64_t channels, size_t& slots);
  at::Tensor operator()(at::Tensor x, const Pass& pass) const;
};

// A linear over channels, frame by frame; its outputs (C, st, sh, sw) become st frames of sh x sw pixels for
// each one.
struct Unpatchify {
  at::Tensor weight, bias;
  int64_t st, side;
  at::Tensor operator()(const at::Tensor& x) const;
};

struct UpBlock {
  std::vector<Resnet> resnets;
  Unpatchify proj;
};

struct VaeDecoder::Net {
  size_t slots = 0;  // first: constructors below count their convolutions in it
  Activation activation;
  PointConv conv_in;
  at::Tensor proj_out_weight, proj_out_bias;
  std::vector<Resnet> block_in, block_out;
  std::vector<UpBlock> up_blocks;

  Net(const Weights& w, const VaeConfig& config);
  // [1, latent_channels, t, h, w] -> [1, out_channels, t * temporal_compression - skipped, H, W]
  at::Tensor operator()(const at::Tensor& z, const Pass& pass) const;

 private:
  at::Tensor project(const at::Tensor& x, const Pass& pass) const;
};

}  // namespace sagelab::mochi
