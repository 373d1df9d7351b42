// SPDX-License-Identifier: Apache-2.0
// The five steps of a family and the one loop over them: encode -> prepare -> (predict -> advance)* -> decode.
// The loop alone does progress, preview, cancellation, live switching and latents to disk; each step is testable alone.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <stop_token>
#include <string>

#include "attention/attention.h"
#include "attention/recorder.h"
#include "attention/wrap/selector.h"
#include "pipelines/core/profile.h"
#include "pipelines/core/sampler.h"
#include "pipelines/core/weights.h"
#include "pipelines/frames.h"
#include "pipelines/progress.h"
#include "pipelines/request.h"

namespace sagelab {

// What the family attends to. With guidance the batch is [negative, positive].
struct Conditioning {
  at::Tensor embeds;   // [B, L, C]
  at::Tensor pooled;   // [B, C] or undefined
  at::Tensor lengths;  // int64 [B] on CPU where padding is dropped, else undefined
  bool guided = false;
};

// Everything that varies per run. progress may be empty.
struct RunContext {
  std::shared_ptr<const attention::Selector> attention;
  attention::Recorder& recorder;
  std::stop_token stop;
  ProgressSink progress;
  void say(decltype(Progress::what) what) const {
    if (progress) progress(std::move(what));
  }
  // Throws Cancelled once stop was requested.
  void check_cancelled() const;
};

struct Cancelled : std::runtime_error {
  Cancelled() : std::runtime_error("cancelled") {}
};

// One model forward: the pinned backend, where in the run it is, and who looks at intermediate tensors.
struct Forward {
  const attention::Backend& attention;
  attention::Recorder& recorder;
  attention::Site site;  // step, steps and branch filled in
  std::stop_token stop;  // looked at between blocks
  std::function<void(const std::string& name, const at::Tensor& value)> observe = {};  // "block.3", "temb" ...
  Profile* profile = nullptr;
};

// What a run carries from step to step. Families derive to keep their tables.
struct State {
  virtual ~State() = default;
  at::Tensor latents;
  Conditioning conditioning;
  std::unique_ptr<Sampler> sampler;
  at::Generator generator;  // made the latents; a sampler that draws noise goes on with it
  int steps = 0;
};

class Pipeline {
 public:
  virtual ~Pipeline() = default;
  virtual Conditioning encode(const Request& request, const RunContext& run) = 0;
  virtual std::unique_ptr<State> prepare(const Request& request, Conditioning conditioning, const RunContext& run) = 0;
  // One guided prediction: owns classifier-free guidance and its casts.
  virtual at::Tensor predict(const State& state, int i, const Forward& forward) = 0;
  virtual void advance(State& state, int i, const at::Tensor& prediction) = 0;
  // A cheap picture of the latents as they stand.
  virtual at::Tensor preview(const State& state) = 0;  // [T, 3, h, w] in [-1, 1], any device
  // latents as predict left them -> [T, 3, H, W] in [-1, 1], not clamped, any device.
  virtual at::Tensor decode(const at::Tensor& latents, const Request& request, const RunContext& run) = 0;
};

// [T, 3, H, W] in [-1, 1] -> 8 bits, rounded as diffusers' VaeImageProcessor and numpy_to_pil do.
Picture to_picture(const at::Tensor& video);

// Seconds of a run, as the report stores them.
struct Timings {
  double load = 0, encode = 0, denoise = 0, decode = 0, total = 0;
  struct StepTime {
    double seconds = 0;
    std::string backend;
  };
  std::vector<StepTime> steps;
};

struct Result {
  at::Tensor latents;  // as written to disk
  std::shared_ptr<const Picture> picture;
  Timings timings;
};

// Runs a resolved request. latents_file: written (safetensors, key "latents") before decoding starts; empty: not
// written. Throws Cancelled, sagelab::Error, c10::Error.
Result generate(Pipeline& pipeline, const Request& request, const std::string& latents_file, const RunContext& run);

}  // namespace sagelab
