// SPDX-License-Identifier: Apache-2.0
#include "pipelines/core/config.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <limits>
#include <sstream>

#include "attention/error.h"

namespace sagelab {
namespace {

using Json = nlohmann::json;

[[noreturn]] void wrong_type(const std::string& where, const std::string& key, const Json& value,
                             const char* wanted) {
  throw Error(fmt::format("{}: {} = {} should be {}", where, key, shown(value), wanted));
}

bool fits_int64(const Json& value) {
  return value.is_number_integer() &&
         (!value.is_number_unsigned() ||
          value.get<uint64_t>() <= uint64_t(std::numeric_limits<int64_t>::max()));
}

}  // namespace

std::string json_reason(const std::exception& error) {
  const std::string text = error.what();
  const size_t end = text.find("] ");
  return text.starts_with("[json.exception") && end != std::string::npos ? text.substr(end + 2) : text;
}

std::string shown(const nlohmann::json& value) {
  const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.size() <= 80 ? text : text.substr(0, 77) + "...";
}

nlohmann::json read_json(const std::filesystem::path& file) {
  std::error_code error;
  const auto status = std::filesystem::status(file, error);
  if (status.type() == std::filesystem::file_type::not_found)
    throw Error(fmt::format("{}: no such file", file.string()),
                "point to the folder of a whole diffusers checkpoint");
  std::ifstream stream;
  if (!std::filesystem::is_directory(status)) stream.open(file, std::ios::binary);
  std::ostringstream text;
  if (stream.is_open()) text << stream.rdbuf();
  if (!stream.is_open() || stream.bad())
    throw Error(fmt::format("{}: cannot be read: {}", file.string(),
                            std::filesystem::is_directory(status) ? "it is a folder" : std::strerror(errno)));
  try {
    return Json::parse(text.view());
  } catch (const Json::exception& e) {
    throw Error(fmt::format("{}: not valid JSON: {}", file.string(), json_reason(e)),
                "the file is damaged or incomplete; download it again");
  }
}

Config::Config(const std::filesystem::path& file) : Config(read_json(file), file.string()) {}

Config::Config(nlohmann::json values, std::string where)
    : values_(std::move(values)), where_(std::move(where)) {
  if (!values_.is_object())
    throw Error(fmt::format("{}: a JSON object is expected, not {}", where_, values_.type_name()));
}

// Null counts as absent, but the key is known all the same.
const nlohmann::json* Config::find(const std::string& key) {
  read_.insert(key);
  const auto member = [](const Json& object, const std::string& name) {
    const auto it = object.find(name);
    return it == object.end() || it->is_null() ? nullptr : &*it;
  };
  const size_t dot = key.find('.');
  if (dot == std::string::npos) return member(values_, key);
  const Json* object = member(values_, key.substr(0, dot));
  if (object && !object->is_object()) wrong_type(where_, key.substr(0, dot), *object, "an object");
  return object ? member(*object, key.substr(dot + 1)) : nullptr;
}

int64_t Config::integer(const std::string& key, int64_t fallback) {
  const Json* value = find(key);
  if (!value) return fallback;
  if (!fits_int64(*value)) wrong_type(where_, key, *value, "an integer");
  return value->get<int64_t>();
}

int64_t Config::at_least(const std::string& key, int64_t fallback, int64_t least) {
  const int64_t value = integer(key, fallback);
  if (value < least) throw Error(fmt::format("{}: {} = {} should be at least {}", where_, key, value, least));
  return value;
}

int64_t Config::size(const std::string& key, int64_t fallback, int64_t most) {
  const int64_t value = at_least(key, fallback, 1);
  if (value > most) throw Error(fmt::format("{}: {} = {} should be at most {}", where_, key, value, most));
  return value;
}

double Config::number(const std::string& key, double fallback) {
  const Json* value = find(key);
  if (!value) return fallback;
  if (!value->is_number()) wrong_type(where_, key, *value, "a number");
  return value->get<double>();
}

bool Config::boolean(const std::string& key, bool fallback) {
  const Json* value = find(key);
  if (!value) return fallback;
  if (!value->is_boolean()) wrong_type(where_, key, *value, "true or false");
  return value->get<bool>();
}

std::string Config::text(const std::string& key, const std::string& fallback) {
  const Json* value = find(key);
  if (!value) return fallback;
  if (!value->is_string()) wrong_type(where_, key, *value, "a string");
  return value->get<std::string>();
}

std::vector<int64_t> Config::integers(const std::string& key, std::vector<int64_t> fallback) {
  const Json* value = find(key);
  if (!value) return fallback;
  if (!value->is_array() || !std::all_of(value->begin(), value->end(), fits_int64))
    wrong_type(where_, key, *value, "a list of integers");
  return value->get<std::vector<int64_t>>();
}

std::vector<double> Config::numbers(const std::string& key, std::vector<double> fallback) {
  const Json* value = find(key);
  if (!value) return fallback;
  if (!value->is_array() ||
      !std::all_of(value->begin(), value->end(), [](const Json& v) { return v.is_number(); }))
    wrong_type(where_, key, *value, "a list of numbers");
  return value->get<std::vector<double>>();
}

std::vector<std::string> Config::texts(const std::string& key, std::vector<std::string> fallback) {
  const Json* value = find(key);
  if (!value) return fallback;
  if (!value->is_array() ||
      !std::all_of(value->begin(), value->end(), [](const Json& v) { return v.is_string(); }))
    wrong_type(where_, key, *value, "a list of strings");
  return value->get<std::vector<std::string>>();
}

bool Config::has(const std::string& key) const {
  const auto it = values_.find(key);
  return it != values_.end() && !it->is_null();
}

bool Config::is_null(const std::string& key) const {
  const auto it = values_.find(key);
  return it != values_.end() && it->is_null();
}

void Config::ignore(std::initializer_list<const char*> keys) {
  read_.insert(keys.begin(), keys.end());
}

void Config::only(const std::string& key, const nlohmann::json& supported) {
  const Json* value = find(key);
  if (value && *value != supported)
    throw Error(
        fmt::format("{}: {} = {} is not supported (only {})", where_, key, shown(*value), shown(supported)));
}

void Config::require_all_read() const {
  const auto unknown = [&](const std::string& key, const Json& value) {
    throw Error(fmt::format("{}: unknown key {} = {}", where_, key, shown(value)),
                "nothing here knows what it changes; remove it if it changes nothing");
  };
  for (const auto& [key, value] : values_.items()) {
    if (key.starts_with('_') || read_.contains(key)) continue;
    // An object is known by its members.
    const auto first = read_.lower_bound(key + ".");
    if (first == read_.end() || !first->starts_with(key + ".")) unknown(key, value);
    for (const auto& [name, part] : value.items())
      if (!read_.contains(key + "." + name)) unknown(key + "." + name, part);
  }
}

std::string Config::class_name() const {
  if (const auto it = values_.find("_class_name"); it != values_.end() && it->is_string()) return *it;
  if (const auto it = values_.find("architectures"); it != values_.end() && it->is_array() && !it->empty())
    if (it->front().is_string()) return it->front();
  return {};
}

}  // namespace sagelab
