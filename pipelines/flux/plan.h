// SPDX-License-Identifier: Apache-2.0
// A model folder, and what a run of it will take, from headers and configs alone.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "attention/attention.h"
#include "pipelines/common/components.h"
#include "pipelines/common/outlook.h"
#include "pipelines/flux/config.h"
#include "pipelines/flux/tokens.h"
#include "pipelines/image/autoencoder_kl.h"
#include "pipelines/image/flow_match_euler.h"
#include "pipelines/registry.h"
#include "pipelines/text/clip/text_encoder.h"
#include "pipelines/text/t5.h"

namespace sagelab::flux {

// What a model folder's configs say. Throws sagelab::Error naming the file and the key that does not fit.
struct Folder {
  explicit Folder(const Request& request);
  std::filesystem::path root;
  TransformerConfig transformer;
  AutoencoderKLConfig vae;
  ClipTextConfig clip;
  T5Config t5;
  FlowMatchEulerConfig scheduler;
  Components components;
};

// A run's sizes in patches and tokens.
struct Geometry {
  Geometry(const Folder& folder, const Request& request);
  Grid grid;
  int64_t text_tokens = 0;
  int64_t rows() const { return text_tokens + grid.tokens(); }
  PictureDecoding decoding(bool tiled) const { return {1, 2 * grid.rows, 2 * grid.columns, tiled}; }
};

// Every subfolder that holds weights.
std::span<const Component> component_table();

// Peaks, tokens and operations of a resolved request.
Plan plan(const Folder& folder, const Request& request);
// available: bytes that tensors may take in all.
Peaks peak_by_phase(const Folder& folder, const Request& request, int64_t available);
// What its forwards ask of attention: the one that every block has.
std::vector<attention::Problem> attention_problems(const Folder& folder, const Request& request,
                                                   const Target& target);

}  // namespace sagelab::flux
