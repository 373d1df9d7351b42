// SPDX-License-Identifier: Apache-2.0
// What a run leaves on the disk, in safetensors files: its finished latents, and every N steps all that it
// takes to go on, bit by bit as if it had never stopped.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "pipelines/pipeline.h"

namespace sagelab {

// A run between two steps.
struct Checkpoint {
  Request request;          // resolved; its switches of attention: taken and to come
  int step = 0, steps = 0;  // done, and in all
  int every = 0;            // steps from one file to the next
  // Of the steps that are done.
  std::vector<Timings::StepTime> times;
  std::vector<attention::ServedCall> calls;
  at::Tensor latents;
  at::Tensor generator;                       // its state; undefined where there is none
  std::map<std::string, at::Tensor> sampler;  // its memory
};

Checkpoint checkpoint_of(const State& state, int step, const Request& request, const RunContext& run);
// Takes the place of the file's former content as a whole. Throws sagelab::Error.
void write_checkpoint(const std::string& file, const Checkpoint& checkpoint);
// Throws sagelab::Error: a file that is damaged, or that is no checkpoint.
Checkpoint read_checkpoint(const std::string& file);
// A state that prepare() made of the same request is then as the checkpoint's was, and the recorder knows the
// calls so far. Throws sagelab::Error where they do not belong together.
void restore(const Checkpoint& checkpoint, State& state, attention::Recorder& recorder);

// Where the finished latents are now: in the file or, should its disk be full, beside the output or in the
// temporary folder; empty: nowhere. A notice says what went wrong. Nothing is thrown for a disk.
std::string save_latents(const std::string& file, const at::Tensor& latents, const Request& request,
                         const RunContext& run);
// On the CPU. Throws sagelab::Error for a file that is damaged or of something else.
at::Tensor read_latents(const std::string& file);
// {served: {backend: calls}, switches: ["10=sage2"]} of the run that made the latents; null where the file
// does not say.
nlohmann::json denoised_by(const std::string& file);

}  // namespace sagelab
