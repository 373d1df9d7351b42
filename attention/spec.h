// SPDX-License-Identifier: Apache-2.0
// The grammar that names backends, as a tree. Every argument must be read by whoever makes the backend:
// clang-format off
//   spec     := word [ '(' argument { ',' argument } ')' ]
//   argument := [ word '=' ] [ word ':' ] spec         "rows=256", "steps=0-4:sdpa(flash)", "else:sage2", "flash"
//   word     := letters, digits and _ . + -
// clang-format on
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "attention/attention.h"

namespace sagelab::attention {

struct Argument;

struct Spec {
  std::string name;
  std::vector<Argument> arguments;
  size_t position = 0;  // of the name, from 1
};

struct Argument {
  std::string key, condition;  // empty where not given
  Spec value;
  size_t position = 0;
  std::string text() const;  // as it would be typed
};

// Throws sagelab::Error that quotes the text and names the position.
Spec parse_spec(std::string_view text);
std::string to_string(const Spec& spec);

// Hands out a spec's arguments once each; what nobody took is an error.
class Arguments {
 public:
  // text: the whole spec, for messages.
  Arguments(const Spec& spec, std::string_view text);
  // The word given as key=word; empty if not given. Throws if it is no plain word.
  std::optional<std::string> option(std::string_view key);
  // Whether key=word was given; takes it only then.
  bool option_is(std::string_view key, std::string_view word);
  // The same as a number from lowest on. Throws if it is none.
  std::optional<int64_t> number(std::string_view key, int64_t lowest);
  // The next argument that is neither key=value nor condition:spec, in order; null after the last.
  const Spec* positional();
  // The next argument with a condition, in order; null after the last.
  const Argument* rule();
  // Throws sagelab::Error naming the first argument that nobody took, and those that exist.
  void require_all_taken(std::string_view known) const;
  [[noreturn]] void fail(const std::string& what, size_t position, const std::string& hint = {}) const;
  const Spec& spec() const { return spec_; }
  std::string_view text() const { return text_; }

 private:
  const Argument* take(std::string_view key);
  const Spec& spec_;
  std::string_view text_;
  std::vector<bool> taken_;
};

// The backend of a spec inside the whole text, for those that wrap others.
BackendPtr make_backend(const Spec& spec, std::string_view text);

}  // namespace sagelab::attention
