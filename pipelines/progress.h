// SPDX-License-Identifier: Apache-2.0
// All that a worker ever says. Plain C++.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <variant>

#include "pipelines/frames.h"

namespace sagelab {

using JobId = uint64_t;

struct Started {
  Request request;  // resolved
};
// i of n units of a named phase are done: "load", "encode", "denoise", "decode".
struct Phase {
  std::string name;
  int64_t i = 0, n = 0;
};
// One denoising step is done. preview is null unless one was asked for at this step.
struct Step {
  int i = 0, n = 0;
  double seconds = 0;
  std::string backend;
  std::shared_ptr<const Picture> preview;
};
// What a user should know ("the prompt is cut ..."); the report holds it too.
struct Notice {
  std::string text;
};
struct Measured {
  int step = 0, layer = 0;
  std::string a, b;
  double cosine = 1, relative_l1 = 0, rmse = 0, max_abs = 0;
};
struct Finished {
  Frames frames;
};
struct Failed {
  std::string message, hint;
  bool cancelled = false;
  std::string latents;  // where the finished latents are, if they are
};

struct Progress {
  JobId job = 0;
  std::variant<Started, Phase, Step, Notice, Measured, Finished, Failed> what;
};

using ProgressSink = std::function<void(decltype(Progress::what))>;

}  // namespace sagelab
