// SPDX-License-Identifier: Apache-2.0
// The table of families: model_index.json's `_class_name` -> what a family can do. One line per family.
#pragma once

#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "pipelines/pipeline.h"

namespace sagelab {

// What a run will do and need, from headers and configs alone.
struct Plan {
  int64_t tokens = 0;            // that attention sees per sample: text and latents
  int64_t text_tokens = 0;       // of those
  int64_t prompt_tokens = 0;     // of those, before padding
  double flops_per_forward = 0;  // multiply-add = 2; batch 1
  int forwards = 0;              // over the run, guidance counted
  int steps = 0, layers = 0;     // as attention::Site counts them
  // The attention calls of one step, in order; those that only some steps have come last.
  struct AttentionCall {
    int layer = 0;
    int64_t qkv_bytes = 0;                                  // of q, k and v together, the whole batch
    int from = 0, until = std::numeric_limits<int>::max();  // the steps [from, until) have it
  };
  std::vector<AttentionCall> calls;
  std::vector<attention::Problem> problems;  // what those ask of a backend, each once
  int64_t capture_bytes = 0;  // what a run whose q, k and v are captured takes more while it denoises
  std::vector<int64_t> latent_shape;
  struct Component {
    std::string name;  // "transformer"
    int64_t parameters = 0;
    int64_t file_bytes = 0;
    int64_t bytes = 0;  // resident, in the run's dtype
  };
  std::vector<Component> components;
  // Of allocations on the device by phase (load included), bytes. On CPU: above the process's own baseline.
  std::vector<std::pair<std::string, int64_t>> peak_by_phase;
  int64_t peak_bytes() const;
  void expect_capture();  // from now on the peaks are of such a run
};

// For `bench model`: a transformer with random weights and inputs at the variant's default size.
struct BenchModel {
  std::function<at::Tensor(const Forward&)> forward;
  std::vector<int64_t> latent_shape;
  int64_t tokens = 0;
  double flops = 0;  // of one forward() with its batch
};

// For `bench vae`: a decoder with random weights, and latents of a run at the variant's default size.
struct BenchVae {
  std::function<at::Tensor(bool tiled)> decode;   // the frames
  std::function<int64_t(bool tiled)> peak_bytes;  // foretold of it, beside weights and latents
  std::vector<int64_t> latent_shape;
};

struct Family {
  std::string name;        // "cogvideox"
  std::string class_name;  // "CogVideoXPipeline"
  std::string help;
  std::function<const std::vector<Option>&()> options;
  // Fills in every unset field from the folder's configs; throws sagelab::Error where sizes do not fit.
  std::function<Request(const Request&)> resolve;
  // Moves width, height and num_frames, where they are set, to the nearest that the model can make.
  std::function<Request(const Request&)> fit;
  std::function<Plan(const Request&)> plan;  // of a resolved request
  // Builds nothing yet: components are loaded by the steps that need them, and freed where memory asks for
  // it.
  std::function<std::unique_ptr<Pipeline>(const Request&, const RunContext&)> open;
  std::vector<std::string> variants;                                     // released sizes: "2b", "5b", "1.5"
  std::function<std::string(const std::string& variant)> variant_dtype;  // as released: "fp16"
  std::function<BenchModel(const std::string& variant, const Target& target)> bench;
  std::function<BenchVae(const std::string& variant, const Target& target)> bench_vae;
  // Every (key, shape) read of a component with a given config, for the full-size name tests and for `info`.
  std::function<std::vector<std::pair<std::string, std::vector<int64_t>>>(const std::string& component,
                                                                          const nlohmann::json& config)>
      names;
  std::vector<std::string> components;  // subfolders that hold weights: "text_encoder", "transformer", "vae"
};
// Of those, the ones that a folder's index does not name as null: parts that a model may be without.
std::vector<std::string> components_of(const Family& family, const nlohmann::json& index);

std::span<const Family> families();
// Throws sagelab::Error: no folder, no model_index.json, unknown `_class_name` (lists the known ones).
const Family& family_of(const std::filesystem::path& model);
// The device and dtype a request means on this machine; throws sagelab::Error for a device that is not there.
Target resolve_target(const Request& request);
// The switches of attention that it plans. Throws sagelab::Error for one that is malformed.
std::vector<attention::PlannedSwitch> switches_of(const Request& request);
// What to say of components without files of request.variant, whose plain ones are read. Throws
// sagelab::Error where no component has any.
std::vector<std::string> check_variant(const Family& family, const Request& request);
// SHA-256 of what the headers of each component's files say: names, shapes, dtypes, sizes; and, as "configs",
// of its other files. Tells whether a folder is still the same, without its data; of a file in place of a
// component's, samples of the data count too. Throws sagelab::Error.
std::map<std::string, std::string> model_digests(const Family& family, const Request& request);
std::string device_name(const at::Device& device);  // as a request says it: "cpu", "cuda:0"

}  // namespace sagelab
