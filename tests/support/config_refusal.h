// SPDX-License-Identifier: Apache-2.0
// A config made of values in place of a file.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "attention/error.h"
#include "pipelines/core/config.h"

namespace sagelab::testing {

template <class ModelConfig>
ModelConfig parse(const nlohmann::json& values, const std::string& where = "folder/config.json") {
  Config config(values, where);
  return ModelConfig(config);
}

// What it says of values that it does not take; "accepted" where it does.
template <class ModelConfig>
std::string refusal(const nlohmann::json& values, const std::string& where = "folder/config.json") {
  try {
    parse<ModelConfig>(values, where);
  } catch (const Error& e) {
    return e.what();
  }
  return "accepted";
}

}  // namespace sagelab::testing
