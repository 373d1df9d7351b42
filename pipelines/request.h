// SPDX-License-Identifier: Apache-2.0
// One generation, as a person asks for it. Plain C++: the user interface sees this and no tensor.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace sagelab {

using OptionValue = std::variant<bool, int64_t, double, std::string>;

// One row of the option table that a family publishes: flags, window controls and JSON are made from it.
struct Option {
  std::string name;                  // diffusers' own: "use_dynamic_cfg"
  OptionValue fallback;              // the default; its alternative fixes the type
  double min = 0, max = 0;           // for numbers, where min < max
  std::vector<std::string> choices;  // for strings, where not empty
  std::string help;
};

// Unset fields take the model folder's or diffusers' own default (Family::resolve).
struct Request {
  std::string model;
  std::string prompt;
  std::string negative_prompt;
  std::optional<int> width, height, num_frames, steps;
  std::optional<double> guidance_scale;
  uint64_t seed = 0;
  std::string dtype = "auto";                // auto | fp32 | fp16 | bf16
  std::string device = "auto";               // auto | cpu | cuda | cuda:N
  std::string variant;                       // "fp16", "bf16": which files of the folder
  std::vector<std::string> weights;          // "transformer=x.safetensors": a file in place of a component's
  std::string attention;                     // a spec; empty: the device's default
  std::string attention_switch = "forward";  // forward | call: when a live switch takes effect
  std::vector<std::string> attention_at;     // switches planned: "10=sage2", from step 10 on, counted from 0
  std::string vae_tiling = "auto";           // auto | on | off
  std::string offload = "auto";              // auto | none | encoders | layers
  std::optional<double> fps;
  int preview = 0;      // a preview every N steps; 0: none
  std::string output;   // x.mp4 | x.png | folder/
  std::string latents;  // where finished latents go; empty: beside the output
  std::map<std::string, OptionValue> options;
};

// Throws sagelab::Error: an unknown key or a wrong type is an error and names the key.
Request request_from_json(const nlohmann::json& json);
nlohmann::json to_json(const Request& request);

// Throws sagelab::Error for an option that is not in the table, of the wrong type or outside its range.
void check_options(const std::map<std::string, OptionValue>& options, const std::vector<Option>& table);
// The request's value, or the table's default.
OptionValue option_value(const Request& request, const std::vector<Option>& table, const std::string& name);

}  // namespace sagelab
