// SPDX-License-Identifier: Apache-2.0
// The five steps of a family and the one loop over them: encode -> prepare -> (predict -> advance)* ->
// decode. The loop alone does progress, preview, cancellation, live switching and latents to disk; each step
// is testable alone.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "pipelines/core/sampler.h"
#include "pipelines/frames.h"
#include "pipelines/request.h"
#include "pipelines/run.h"

namespace sagelab {

// What the family attends to. With guidance the batch is [negative, positive].
struct Conditioning {
  at::Tensor embeds;   // [B, L, C]
  at::Tensor pooled;   // [B, C] or undefined
  at::Tensor lengths;  // int64 [B] on CPU where padding is dropped, else undefined
  bool guided = false;
};

// What a run carries from step to step. Families derive to keep their tables.
struct State {
  virtual ~State() = default;
  at::Tensor latents;
  Conditioning conditioning;
  std::unique_ptr<Sampler> sampler;
  at::Generator generator;  // made the latents; a sampler that draws noise goes on with it
  int steps = 0;
  // Of the latents after a step, where it is another than before the first.
  std::optional<at::ScalarType> stepped_dtype = {};
};

class Pipeline {
 public:
  virtual ~Pipeline() = default;
  // Resolved requests that will follow. A pipeline that frees its encoders after use encodes their prompts
  // together with the next one's, so that they are loaded once.
  virtual void expect(std::vector<Request>) {}
  virtual Conditioning encode(const Request& request, const RunContext& run) = 0;
  virtual std::unique_ptr<State> prepare(const Request& request, Conditioning conditioning,
                                         const RunContext& run) = 0;
  // One guided prediction: owns classifier-free guidance and its casts.
  virtual at::Tensor predict(const State& state, int i, const Forward& forward) = 0;
  virtual void advance(State& state, int i, const at::Tensor& prediction) = 0;
  // A cheap picture of latents in the form of the state's: [T, 3, h, w] in [-1, 1], any device.
  virtual at::Tensor preview(const State& state, const at::Tensor& latents) = 0;
  // latents as the last advance left them -> [T, 3, H, W] in [-1, 1], not clamped, any device.
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
  at::Tensor latents;  // on CPU, as written to disk
  std::shared_ptr<const Picture> picture;
  Timings timings;
  std::vector<std::pair<std::string, int64_t>> peak_by_phase;  // bytes of tensors on the run's device
  std::vector<std::string> notices;                            // for the report and the screen
  std::string latents_file;                                    // where they are; empty: nowhere
  bool tiled_after_all = false;  // decoding ran out of memory, and was begun again in tiles
  nlohmann::json denoised;       // where it only decodes: what the latents' file says of the run before
  std::vector<attention::Switch> switches;  // of attention, as they took effect
};

// Runs a resolved request. latents_file: written (safetensors, key "latents", the request as metadata) before
// decoding starts; empty: not written. Its room on the disk is taken before the first step; if it cannot be
// written all the same, they go beside the output or into the temporary folder, and a notice says so. Throws
// Cancelled, sagelab::Error, c10::Error; once latents are on disk, an Error's hint says where.
Result generate(Pipeline& pipeline, const Request& request, const std::string& latents_file,
                const RunContext& run);
// The decode phase alone, from what generate() wrote. Throws sagelab::Error for a file that is damaged.
Result decode_latents(Pipeline& pipeline, const Request& request, const std::string& latents_file,
                      const RunContext& run);
// The request that a latents file was made from. Throws sagelab::Error where the file is damaged or has none.
Request request_of_latents(const std::string& latents_file);

}  // namespace sagelab
