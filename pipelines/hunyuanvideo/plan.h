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
#include "pipelines/hunyuanvideo/config.h"
#include "pipelines/hunyuanvideo/vae/decoder.h"
#include "pipelines/image/flow_match_euler.h"
#include "pipelines/registry.h"
#include "pipelines/text/clip/text_encoder.h"
#include "pipelines/text/llama/text_encoder.h"
#include "pipelines/video/video.h"

namespace sagelab::hunyuanvideo {

// What a model folder's configs say. Throws sagelab::Error naming the file and the key that does not fit.
struct Folder {
  explicit Folder(const Request& request);
  std::filesystem::path root;
  TransformerConfig transformer;
  VaeConfig vae;
  LlamaConfig llama;
  ClipTextConfig clip;
  FlowMatchEulerConfig scheduler;
  Components components;
  VideoUnits units() const;
  int64_t clip_rows() const;  // CLIP's, start and end included
};

VideoSizes sizes_of(const Folder& folder, const Request& request);
Decoding decoding_of(const VideoSizes& sizes, const Request& request);

// Every subfolder that holds weights.
std::span<const Component> component_table();

// Peaks, tokens and operations of a resolved request.
Plan plan(const Folder& folder, const Request& request);
// available: bytes that tensors may take in all.
Peaks peak_by_phase(const Folder& folder, const Request& request, int64_t available);
// What its forwards ask of attention, each once: of all rows, and the refiner's of the text alone and of an
// empty text.
std::vector<attention::Problem> attention_problems(const Folder& folder, const Request& request,
                                                   const Target& target);

}  // namespace sagelab::hunyuanvideo
