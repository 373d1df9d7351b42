// SPDX-License-Identifier: Apache-2.0
// The commands below `bench`; each adds itself.
#pragma once

#include <CLI/App.hpp>

namespace sagelab {

void add_bench_accumulator(CLI::App& bench, int& exit_code);
void add_bench_accuracy(CLI::App& bench, int& exit_code);
void add_bench_attention(CLI::App& bench, int& exit_code);
void add_bench_stages(CLI::App& bench, int& exit_code);
void add_bench_vae(CLI::App& bench, int& exit_code);

}  // namespace sagelab
