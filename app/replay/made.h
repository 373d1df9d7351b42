// SPDX-License-Identifier: Apache-2.0
// How frames were made, beside their request: what every output carries, and what replay compares.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pipelines/registry.h"

namespace sagelab {

// Of 8-bit RGB frames and their sizes: SHA-256 as hexadecimal digits.
std::string frames_digest(const Picture& picture);

// {frames: {digest, count, width, height}, versions {sagelab, torch, cuda}, device: its name, dtype,
// attention {served {backend: calls}}, switches ["10=sage2"], weights {component: digest of its headers,
// configs}; on the CPU threads; where this run only decoded, and not as it was denoised, decoded {device,
// dtype} of that}. report: of the same run.
nlohmann::json made_of(const Family& family, const Request& request, const Result& result,
                       const nlohmann::json& report);

// What differs between how two were made, a line each: "device: NVIDIA H200 then, NVIDIA H100 now". The
// frames themselves are left out.
std::vector<std::string> differences(const nlohmann::json& then, const nlohmann::json& now);

}  // namespace sagelab
