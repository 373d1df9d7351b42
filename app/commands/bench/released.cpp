// SPDX-License-Identifier: Apache-2.0
#include "app/commands/bench/released.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <vector>

#include "app/failure.h"
#include "app/options.h"

namespace sagelab {
namespace {

const Family& find_family(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& f : families()) {
    if (f.name == name) return f;
    names.push_back(f.name);
  }
  throw UsageError("unknown family " + name, fmt::format("--family is one of: {}", fmt::join(names, ", ")));
}

}  // namespace

void Released::add_to(CLI::App& command) {
  command.add_option("--family", family, "see sagelab info")->required();
  command.add_option("--variant", variant, "a released size")->required();
  command.add_flag("--random-weights", random_weights, "no checkpoint: weights and inputs are drawn");
  command.add_option("--device", device, "auto, cpu, cuda or cuda:N")
      ->check(CLI::Validator(check_device, "auto|cpu|cuda|cuda:N"));
  command.add_option("--dtype", dtype, "auto: the released one on CUDA, fp32 on the CPU")
      ->check(CLI::IsMember({"auto", "fp32", "fp16", "bf16"}));
}

const Family& Released::check(const std::string& command) const {
  const auto& f = find_family(family);
  if (std::find(f.variants.begin(), f.variants.end(), variant) == f.variants.end())
    throw UsageError(fmt::format("{} has no variant {}", f.name, variant),
                     fmt::format("--variant is one of: {}", fmt::join(f.variants, ", ")));
  if (!random_weights)
    throw UsageError(command + " times random weights and needs no checkpoint",
                     "add --random-weights to say so");
  return f;
}

Target Released::target(const Family& f) const {
  Request request;
  request.device = device;
  request.dtype = dtype == "auto" ? f.variant_dtype(variant) : dtype;  // there is no checkpoint to ask
  auto target = resolve_target(request);
  if (dtype == "auto" && target.device.is_cpu()) target.dtype = at::kFloat;
  return target;
}

}  // namespace sagelab
