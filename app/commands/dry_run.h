// SPDX-License-Identifier: Apache-2.0
// `generate --dry-run`: what a run would do and need, from headers alone.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "app/commands/capture.h"
#include "pipelines/registry.h"

namespace sagelab {

struct DryRun {
  Request request;  // resolved
  Plan plan;
  std::string attention;            // the spec that would serve
  std::vector<std::string> writes;  // files and folders, in the order they would appear
  const CaptureFolder* capture = nullptr;
};

nlohmann::json to_json(const DryRun& run);
std::string table_of(const DryRun& run);

}  // namespace sagelab
