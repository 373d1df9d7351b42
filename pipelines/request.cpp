// SPDX-License-Identifier: Apache-2.0
#include "pipelines/request.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

#include "attention/error.h"

namespace sagelab {
namespace {

using Json = nlohmann::json;

template <typename T>
constexpr bool kIsOptional = false;
template <typename T>
constexpr bool kIsOptional<std::optional<T>> = true;

// The one list of fields: reading, writing and the names in messages all follow it.
template <typename R, typename F>
void for_each_field(R& r, F&& field) {
  field("model", r.model);
  field("prompt", r.prompt);
  field("negative_prompt", r.negative_prompt);
  field("width", r.width);
  field("height", r.height);
  field("num_frames", r.num_frames);
  field("steps", r.steps);
  field("guidance_scale", r.guidance_scale);
  field("seed", r.seed);
  field("dtype", r.dtype);
  field("device", r.device);
  field("variant", r.variant);
  field("weights", r.weights);
  field("attention", r.attention);
  field("attention_switch", r.attention_switch);
  field("attention_at", r.attention_at);
  field("vae_tiling", r.vae_tiling);
  field("offload", r.offload);
  field("fps", r.fps);
  field("preview", r.preview);
  field("output", r.output);
  field("latents", r.latents);
  field("options", r.options);
}

[[noreturn]] void wrong_type(const std::string& key, const Json& value, const char* wanted) {
  throw Error(fmt::format("request: \"{}\" is {}, not {}", key,
                          value.dump(-1, ' ', true, Json::error_handler_t::replace), wanted));
}

void read(const std::string& key, const Json& value, std::string& out) {
  if (!value.is_string()) wrong_type(key, value, "a string");
  out = value.get<std::string>();
}

void read(const std::string& key, const Json& value, int& out) {
  // As int64 an unsigned value could wrap into range.
  const bool wraps =
      value.is_number_unsigned() && value.get<uint64_t>() > uint64_t(std::numeric_limits<int>::max());
  if (!value.is_number_integer() || wraps || !std::in_range<int>(value.get<int64_t>()))
    wrong_type(key, value, "a whole number");
  out = value.get<int>();
}

void read(const std::string& key, const Json& value, uint64_t& out) {
  if (!value.is_number_integer() || (!value.is_number_unsigned() && value.get<int64_t>() < 0))
    wrong_type(key, value, "a whole number of at least 0");
  out = value.get<uint64_t>();
}

void read(const std::string& key, const Json& value, double& out) {
  if (!value.is_number()) wrong_type(key, value, "a number");
  out = value.get<double>();
}

void read(const std::string& key, const Json& value, std::vector<std::string>& out) {
  if (!value.is_array()) wrong_type(key, value, "a list of strings");
  out.clear();
  for (const Json& item : value) read(key, item, out.emplace_back());
}

template <typename T>
void read(const std::string& key, const Json& value, std::optional<T>& out) {
  out.reset();
  if (!value.is_null()) read(key, value, out.emplace());
}

void read(const std::string& key, const Json& value, OptionValue& out) {
  if (value.is_boolean())
    out = value.get<bool>();
  else if (value.is_number_integer())
    out = value.get<int64_t>();
  else if (value.is_number())
    out = value.get<double>();
  else if (value.is_string())
    out = value.get<std::string>();
  else
    wrong_type(key, value, "true, false, a number or a string");
}

void read(const std::string& key, const Json& value, std::map<std::string, OptionValue>& out) {
  if (!value.is_object()) wrong_type(key, value, "an object");
  out.clear();
  for (const auto& [name, inner] : value.items()) read(key + "." + name, inner, out[name]);
}

std::string shown(const OptionValue& value) {
  return std::visit(
      [](const auto& v) {
        if constexpr (std::is_same_v<std::decay_t<decltype(v)>, std::string>)
          return "\"" + v + "\"";
        else
          return fmt::format("{}", v);
      },
      value);
}

const char* type_name(const OptionValue& value) {
  static constexpr const char* kNames[] = {"true or false", "a whole number", "a number", "text"};
  return kNames[value.index()];
}

std::optional<double> as_number(const OptionValue& value) {
  if (const auto* i = std::get_if<int64_t>(&value)) return double(*i);
  if (const auto* d = std::get_if<double>(&value)) return *d;
  return std::nullopt;
}

const Option* find_option(const std::vector<Option>& table, const std::string& name) {
  const auto it = std::find_if(table.begin(), table.end(), [&](const Option& o) { return o.name == name; });
  return it == table.end() ? nullptr : &*it;
}

void check_option(const Option& option, const OptionValue& value) {
  // A whole number is a fine value for a real one; nothing else converts.
  const bool whole_for_real =
      std::holds_alternative<double>(option.fallback) && std::holds_alternative<int64_t>(value);
  if (value.index() != option.fallback.index() && !whole_for_real)
    throw Error(
        fmt::format("option {} is {}, not {}", option.name, shown(value), type_name(option.fallback)));
  if (const auto number = as_number(value)) {
    const bool bounded = option.min < option.max;
    if (!std::isfinite(*number) || (bounded && (*number < option.min || *number > option.max)))
      throw Error(
          fmt::format("option {} is {}, not within {} to {}", option.name, *number, option.min, option.max));
  }
  const auto* word = std::get_if<std::string>(&value);
  if (word && !option.choices.empty() &&
      std::find(option.choices.begin(), option.choices.end(), *word) == option.choices.end())
    throw Error(fmt::format("option {} is \"{}\", not one of: {}", option.name, *word,
                            fmt::join(option.choices, ", ")));
}

}  // namespace

Request request_from_json(const Json& json) {
  if (!json.is_object()) throw Error("request: not a JSON object");
  Request request;
  std::vector<std::string> known;
  for_each_field(request, [&](const char* key, auto& field) {
    known.push_back(key);
    if (const auto it = json.find(key); it != json.end()) read(key, *it, field);
  });
  for (const auto& [key, value] : json.items())
    if (std::find(known.begin(), known.end(), key) == known.end())
      throw Error(fmt::format("request: unknown key \"{}\"", key),
                  fmt::format("known keys: {}", fmt::join(known, ", ")));
  return request;
}

Json to_json(const Request& request) {
  Json json = Json::object();
  for_each_field(request, [&](const char* key, const auto& field) {
    using Field = std::decay_t<decltype(field)>;
    if constexpr (kIsOptional<Field>) {
      if (field) json[key] = *field;
    } else if constexpr (std::is_same_v<Field, std::vector<std::string>>) {
      if (!field.empty()) json[key] = field;
    } else if constexpr (std::is_same_v<Field, std::map<std::string, OptionValue>>) {
      json[key] = Json::object();
      for (const auto& [name, value] : field) std::visit([&](const auto& v) { json[key][name] = v; }, value);
    } else {
      json[key] = field;
    }
  });
  return json;
}

void check_options(const std::map<std::string, OptionValue>& options, const std::vector<Option>& table) {
  for (const auto& [name, value] : options) {
    const Option* option = find_option(table, name);
    if (!option) {
      std::vector<std::string> known;
      for (const Option& o : table) known.push_back(o.name);
      throw Error(fmt::format("unknown option {}", name),
                  fmt::format("this model knows: {}",
                              known.empty() ? "none" : fmt::format("{}", fmt::join(known, ", "))));
    }
    check_option(*option, value);
  }
}

OptionValue option_value(const Request& request, const std::vector<Option>& table, const std::string& name) {
  const Option* option = find_option(table, name);
  if (!option) throw std::logic_error("no option " + name + " in the table");
  const auto it = request.options.find(name);
  if (it == request.options.end()) return option->fallback;
  check_option(*option, it->second);
  if (std::holds_alternative<double>(option->fallback)) return *as_number(it->second);
  return it->second;
}

}  // namespace sagelab
