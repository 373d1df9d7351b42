// SPDX-License-Identifier: Apache-2.0
// Everything that varies per run, and per forward of a run.
#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <functional>
#include <memory>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <vector>

#include "attention/attention.h"
#include "attention/recorder.h"
#include "attention/switching/switching.h"
#include "attention/wrap/capture.h"
#include "attention/wrap/selector.h"
#include "pipelines/core/profile.h"
#include "pipelines/core/weights.h"
#include "pipelines/progress.h"

namespace sagelab {

// Who looks at the latents between the steps of a run, and who puts others in their place. Called by the
// thread that runs the loop, outside of the seconds that it takes of a step; what they throw ends the run.
struct StepHooks {
  std::function<at::Tensor(int i)> before;  // what step i starts from, on any device; undefined: its own
  std::function<void(int i, const at::Tensor& latents)> after;  // as step i left them, on the run's device
  bool decode = true;  // else the run ends with its latents, and its picture holds no frames
};

// Where a run leaves what it takes to go on, and what it goes on from (pipelines/saved/checkpoint.h).
struct Checkpoints {
  int every = 0;       // steps; 0: none is written
  std::string file;    // taken over as a whole each time
  std::string resume;  // a checkpoint; empty: from the first step
};

// progress may be empty.
struct RunContext {
  std::shared_ptr<attention::Selector> attention;
  attention::Recorder& recorder;
  std::stop_token stop;
  // Called by the thread that runs the loop and, while a component loads, by loading threads, one at a time.
  ProgressSink progress;
  // Where the finished latents of this run are, once they are.
  std::string* saved_latents = nullptr;
  // generate() sets these: what a user should know ("the prompt is cut ..."), the seconds of loading, so that
  // they do not count as encoding or denoising, and what serves, step by step.
  std::vector<std::string>* notices = nullptr;
  double* load_seconds = nullptr;
  std::shared_ptr<attention::Switching> switching = {};
  const attention::Capturing* capture = nullptr;  // of the calls that serve the run; may be null
  const StepHooks* hooks = nullptr;               // may be null, as any of its functions
  const Checkpoints* checkpoints = nullptr;       // may be null
  void say(decltype(Progress::what) what) const {
    if (progress) progress(std::move(what));
  }
  void notice(const std::string& text) const;  // told once, however often it is said
  // Throws Cancelled once stop was requested.
  void check_cancelled() const;
};

// What an exception says, on one line and without LibTorch's backtrace.
std::string message_of(const std::exception& error);
// LibTorch throws its own type on CUDA; its CPU allocator throws a plain c10::Error.
bool is_out_of_memory(const std::exception& error);
// ", 20.00 GiB more were asked for", or empty where the allocator does not say.
std::string asked_for(const std::exception& error);
inline constexpr const char* kTakeLessMemory =
    "ask for fewer frames or a smaller size, --vae-tiling on, --offload encoders or layers, or --dtype bf16";

// One component being loaded, for the length of the scope: "load" progress in bytes and its seconds.
class Loading {
 public:
  explicit Loading(const RunContext& run);
  ~Loading();
  Loading(const Loading&) = delete;
  Loading& operator=(const Loading&) = delete;
  LoadProgress progress();  // for open_folder

 private:
  struct Shared;
  const RunContext& run_;
  std::shared_ptr<Shared> shared_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
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
  std::function<void(const std::string& name, const at::Tensor& value)> observe =
      {};  // "block.3", "temb" ...
  Profile* profile = nullptr;
};

}  // namespace sagelab
