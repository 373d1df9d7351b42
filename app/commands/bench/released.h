// SPDX-License-Identifier: Apache-2.0
// What the benches of released models are asked for: which one, where, and that its weights are drawn.
#pragma once

#include <CLI/App.hpp>
#include <string>

#include "pipelines/registry.h"

namespace sagelab {

struct Released {
  std::string family, variant, device = "auto", dtype = "auto";
  bool random_weights = false;

  void add_to(CLI::App& command);
  // Throws UsageError for a family or variant that is not there, and where random weights are not agreed to.
  const Family& check(const std::string& command) const;
  // auto: the released dtype on CUDA, fp32 on the CPU.
  Target target(const Family& family) const;
};

}  // namespace sagelab
