// SPDX-License-Identifier: Apache-2.0
// `bench attention`: time and error of backends side by side, on the same inputs, in one process.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "app/commands/bench/attention/inputs.h"
#include "attention/recorder.h"
#include "pipelines/registry.h"

namespace sagelab::bench {

struct Candidate {
  std::string spec;  // as it was asked for
  attention::BackendPtr backend;
};

struct Settings {
  std::vector<Candidate> candidates;
  std::string distribution = "normal";
  uint64_t seed = 0;
  Target target;
  int warmup = 3, repeat = 20;  // calls of each
  int64_t rows = 256;           // queries of each head that are compared with fp64
  double settle_seconds = 0;    // of calls before those that are timed, in each turn
  double most_seconds = 3;      // of timed calls of one backend at one shape: a slow one is repeated less
  int64_t cache_bytes = 0;      // of the device: inputs alternate where so much would hold them
};

struct Timing {
  double median = 0, min = 0, max = 0;  // seconds of one call
  int repeats = 0;
};

struct Row {
  std::string spec, served;
  std::string reason;            // why there are no figures; empty where there are
  bool failed = false;           // it should have run, and did not, or gave values that are not finite
  std::optional<Timing> run;     // from q, k and v as they are drawn; of a joint call all of it
  std::optional<Timing> kernel;  // the attention kernel alone, where it has operands to be made ready before
  attention::Errors errors;
};

struct Result {
  Shape shape;
  int input_sets = 1;
  std::vector<Row> rows;  // in the order of the candidates
};

Result measure(const Shape& shape, const Settings& settings);

// How many sets of inputs of so many bytes it takes to find none in the cache when its turn comes.
int input_sets(int64_t bytes, int64_t cache_bytes);

struct Title {
  std::string device, dtype;  // "NVIDIA H200 (cuda:0)", "bf16"
  bool joint = false;         // the shapes have text
};
std::string heading_of(const Title& title, const Settings& settings);  // and what the columns are
std::string table_of(const Settings& settings, const Result& result);
nlohmann::json to_json(const Title& title, const Settings& settings, const std::vector<Result>& results);
// Operations a second over the number of tokens: one panel for each head dimension.
std::string plot_of(const Title& title, const Settings& settings, const std::vector<Result>& results);

}  // namespace sagelab::bench
