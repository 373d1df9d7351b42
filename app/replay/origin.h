// SPDX-License-Identifier: Apache-2.0
// What a file of ours says of how its frames were made.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pipelines/request.h"

namespace sagelab {

struct Origin {
  std::string label;    // of a comparison's report: "a"; else empty
  Request request;      // resolved; with the switches that took effect as those that it plans
  nlohmann::json made;  // made.h
};

// Of an MP4, a PNG, a folder of frames, its request.json, or a report; a comparison's report holds several.
// Throws sagelab::Error where the file is none of these, or does not say how it was made.
std::vector<Origin> origins_of(const std::filesystem::path& file);

// The request of a request.json, with or without what is stored beside it. Throws sagelab::Error.
Request request_of_output(nlohmann::json json);

}  // namespace sagelab
