// SPDX-License-Identifier: Apache-2.0
// How what is asked for differs from what a folder holds.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace sagelab::batch {

// "request.steps was 50 and is 30; request.seed ...": the first few keys that differ; empty where none does.
std::string difference(const nlohmann::json& before, const nlohmann::json& now);

}  // namespace sagelab::batch
