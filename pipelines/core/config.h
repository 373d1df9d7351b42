// SPDX-License-Identifier: Apache-2.0
// A component's config.json, read key by key: every key is honoured or refused by name.
#pragma once

#include <exception>
#include <filesystem>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

namespace sagelab {

class Config {
 public:
  // Throws sagelab::Error: file missing, bad JSON (with its position), not an object.
  explicit Config(const std::filesystem::path& file);
  Config(nlohmann::json values, std::string where);

  // The key's value ("object.key": one level down), or the class default where the key is absent or null.
  // Throws sagelab::Error for a wrong type.
  int64_t integer(const std::string& key, int64_t fallback);
  int64_t at_least(const std::string& key, int64_t fallback, int64_t least);  // nor for a smaller one
  // A count or a size, at least 1; what exceeds most is damage, and would only be found out by waiting.
  int64_t size(const std::string& key, int64_t fallback, int64_t most);
  double number(const std::string& key, double fallback);
  bool boolean(const std::string& key, bool fallback);
  std::string text(const std::string& key, const std::string& fallback);
  std::vector<int64_t> integers(const std::string& key, std::vector<int64_t> fallback);
  std::vector<double> numbers(const std::string& key, std::vector<double> fallback);
  std::vector<std::string> texts(const std::string& key, std::vector<std::string> fallback);
  bool has(const std::string& key) const;      // present and not null
  bool is_null(const std::string& key) const;  // present and null: some classes then have another default
  // Known and without effect on inference (dropout, gradient_checkpointing ...).
  void ignore(std::initializer_list<const char*> keys);
  // Honoured at one value alone; any other throws sagelab::Error "<file>: <key> = <value> is not supported
  // (only <value>)".
  void only(const std::string& key, const nlohmann::json& supported);
  // Throws sagelab::Error naming the first key that nobody asked for. Keys that start with '_' are metadata.
  void require_all_read() const;

  const std::string& where() const { return where_; }
  std::string class_name() const;  // "_class_name" or architectures[0]

 private:
  const nlohmann::json* find(const std::string& key);
  nlohmann::json values_;
  std::string where_;
  std::set<std::string> read_;
};

// nlohmann's text without its "[json.exception.parse_error.101] " in front.
std::string json_reason(const std::exception& error);
// As JSON in a message: at most 80 bytes of it.
std::string shown(const nlohmann::json& value);
// Throws sagelab::Error naming the file: missing, unreadable, bad JSON.
nlohmann::json read_json(const std::filesystem::path& file);

}  // namespace sagelab
