// SPDX-License-Identifier: Apache-2.0
// `bench model`: whole denoising forwards with random weights, timed, checked and profiled.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pipelines/registry.h"

namespace sagelab {

struct BenchSettings {
  std::vector<std::string> attention;  // specs, each timed in every round
  Target target;
  int warmup = 2, repeat = 5;  // forwards of each spec
};

struct BenchRow {
  std::string attention;                  // as it was asked for
  std::string served;                     // by whom the calls were served
  double median = 0, min = 0, max = 0;    // seconds
  std::map<std::string, double> profile;  // seconds by section, of a forward of its own
  double profiled = 0;                    // seconds of that forward
  int64_t peak_bytes = 0;                 // of tensors, weights included
  double std_low = 0, std_high = 0;       // over all block outputs
  int blocks = 0;
};

// Throws sagelab::Error where the prediction or a block's output is not finite or its standard deviation
// leaves [1e-2, 1e2], naming the first; and where a spec cannot run.
std::vector<BenchRow> bench_model(const BenchModel& model, const BenchSettings& settings);

// FLOP/s of one square matrix product of random values; size 0: one that suits the device.
struct MatmulRate {
  int64_t size = 0;
  std::string dtype;
  double flops_per_second = 0;
};
MatmulRate matmul_rate(const Target& target, int64_t size = 0);

// What the rows were measured on.
struct BenchTitle {
  std::string family, variant, device, dtype;
  MatmulRate matmul;
};
nlohmann::json bench_json(const BenchTitle& title, const BenchModel& model,
                          const std::vector<BenchRow>& rows);
std::string bench_table(const BenchTitle& title, const BenchModel& model, const std::vector<BenchRow>& rows);

}  // namespace sagelab
