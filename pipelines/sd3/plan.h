// SPDX-License-Identifier: Apache-2.0
// A model folder, and what a run of it will take, from headers and configs alone.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <vector>

#include "attention/attention.h"
#include "pipelines/common/components.h"
#include "pipelines/common/outlook.h"
#include "pipelines/image/autoencoder_kl.h"
#include "pipelines/image/flow_match_euler.h"
#include "pipelines/registry.h"
#include "pipelines/sd3/config.h"
#include "pipelines/text/clip/text_encoder.h"
#include "pipelines/text/t5.h"

namespace sagelab::sd3 {

// What a model folder's configs say. Throws sagelab::Error naming the file and the key that does not fit.
struct Folder {
  explicit Folder(const Request& request);
  std::filesystem::path root;
  TransformerConfig transformer;
  AutoencoderKLConfig vae;
  ClipTextConfig clip_l, clip_g;
  std::optional<T5Config> t5;  // text_encoder_3, which a folder may be without
  FlowMatchEulerConfig scheduler;
  int64_t clip_length = 0;  // tokens of either CLIP, padding included
  Components components;
  int64_t unit() const { return vae.spatial_compression() * transformer.patch_size; }  // of sides, in pixels
};

// A run's sizes in latents and tokens.
struct Geometry {
  Geometry(const Folder& folder, const Request& request);
  int64_t height = 0, width = 0;  // of latents
  int64_t text_tokens = 0, image_tokens = 0;
  int64_t rows() const { return text_tokens + image_tokens; }
  PictureDecoding decoding(bool tiled) const { return {1, height, width, tiled}; }
};

// Every subfolder that holds weights.
std::span<const Component> component_table();

// Peaks, tokens and operations of a resolved request.
Plan plan(const Folder& folder, const Request& request);
// available: bytes that tensors may take in all.
Peaks peak_by_phase(const Folder& folder, const Request& request, int64_t available);
// What its forwards ask of attention, each once: all rows, the last block's image rows, the image alone.
std::vector<attention::Problem> attention_problems(const Folder& folder, const Request& request,
                                                   const Target& target);

}  // namespace sagelab::sd3
