// SPDX-License-Identifier: Apache-2.0
#include "attention/spec.h"

#include <fmt/format.h>

#include <charconv>

#include "attention/error.h"

namespace sagelab::attention {

namespace {

constexpr int kMaxDepth = 16;

[[noreturn]] void fail_at(std::string_view text, const std::string& what, size_t position,
                          const std::string& hint) {
  throw Error(fmt::format("attention '{}': {} at position {}", text, what, position), hint);
}

bool is_word_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' ||
         c == '+' || c == '-';
}

bool is_plain(const Spec& spec) {
  return spec.arguments.empty();
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Spec all() {
    Spec spec = this->spec(word("a backend's name"), 1);
    if (!at_end()) fail(fmt::format("unexpected {}", here()));
    return spec;
  }

 private:
  struct Word {
    std::string text;
    size_t position;
  };

  void skip_space() {
    while (next_ < text_.size() && (text_[next_] == ' ' || text_[next_] == '\t')) ++next_;
  }
  bool at_end() {
    skip_space();
    return next_ == text_.size();
  }
  bool accept(char c) {
    if (at_end() || text_[next_] != c) return false;
    ++next_;
    return true;
  }
  std::string here() {
    if (at_end()) return "end";
    const unsigned char c = static_cast<unsigned char>(text_[next_]);
    return c >= 0x20 && c < 0x7f ? fmt::format("'{}'", text_[next_]) : fmt::format("byte 0x{:02x}", c);
  }
  [[noreturn]] void fail(const std::string& what) {
    skip_space();
    fail_at(text_, what, next_ + 1, "");
  }

  Word word(const char* wanted) {
    if (at_end() || !is_word_character(text_[next_]))
      fail(fmt::format("expected {}, found {}", wanted, here()));
    const size_t first = next_;
    while (next_ < text_.size() && is_word_character(text_[next_])) ++next_;
    return {std::string(text_.substr(first, next_ - first)), first + 1};
  }

  Spec spec(Word name, int depth) {
    Spec spec{std::move(name.text), {}, name.position};
    if (!accept('(')) return spec;
    if (depth == kMaxDepth) fail(fmt::format("more than {} parentheses inside each other", kMaxDepth));
    do {
      Argument next = argument(depth + 1);
      for (const Argument& a : spec.arguments) {
        if (!next.key.empty() && next.condition.empty() && a.condition.empty() && a.key == next.key) {
          fail_at(text_, fmt::format("'{}' is given twice, again", next.key), next.position, "");
        }
      }
      spec.arguments.push_back(std::move(next));
    } while (accept(','));
    if (!accept(')')) fail(fmt::format("expected ',' or ')', found {}", here()));
    return spec;
  }

  Argument argument(int depth) {
    Argument a;
    Word next = word("an argument");
    a.position = next.position;
    if (accept('=')) {
      a.key = std::move(next.text);
      next = word("a value");
    }
    if (accept(':')) {
      a.condition = std::move(next.text);
      next = word("a backend's name");
    }
    a.value = spec(std::move(next), depth);
    return a;
  }

  std::string_view text_;
  size_t next_ = 0;
};

}  // namespace

std::string Argument::text() const {
  std::string text;
  if (!key.empty()) text += fmt::format("{}=", key);
  if (!condition.empty()) text += fmt::format("{}:", condition);
  return text + to_string(value);
}

std::string to_string(const Spec& spec) {
  if (is_plain(spec)) return spec.name;
  std::string arguments;
  for (const Argument& a : spec.arguments)
    arguments += fmt::format("{}{}", arguments.empty() ? "" : ",", a.text());
  return fmt::format("{}({})", spec.name, arguments);
}

Spec parse_spec(std::string_view text) {
  return Parser(text).all();
}

Arguments::Arguments(const Spec& spec, std::string_view text)
    : spec_(spec), text_(text), taken_(spec.arguments.size(), false) {}

void Arguments::fail(const std::string& what, size_t position, const std::string& hint) const {
  fail_at(text_, what, position, hint);
}

const Argument* Arguments::take(std::string_view key) {
  for (size_t i = 0; i < taken_.size(); ++i) {
    const Argument& a = spec_.arguments[i];
    if (taken_[i] || a.key != key || !a.condition.empty()) continue;
    taken_[i] = true;
    return &a;
  }
  return nullptr;
}

std::optional<std::string> Arguments::option(std::string_view key) {
  const Argument* a = take(key);
  if (a == nullptr) return std::nullopt;
  if (!is_plain(a->value))
    fail(fmt::format("'{}' takes a word, not '{}',", key, to_string(a->value)), a->position);
  return a->value.name;
}

bool Arguments::option_is(std::string_view key, std::string_view word) {
  for (size_t i = 0; i < taken_.size(); ++i) {
    const Argument& a = spec_.arguments[i];
    if (a.key == key && a.condition.empty() && to_string(a.value) == word) return taken_[i] = true;
  }
  return false;
}

std::optional<int64_t> Arguments::number(std::string_view key, int64_t lowest) {
  const Argument* a = take(key);
  if (a == nullptr) return std::nullopt;
  const std::string word = to_string(a->value);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc() || end != word.data() + word.size() || value < lowest) {
    fail(fmt::format("'{}' takes a whole number from {} on, not '{}',", key, lowest, word), a->position);
  }
  return value;
}

const Spec* Arguments::positional() {
  const Argument* a = take("");
  return a == nullptr ? nullptr : &a->value;
}

const Argument* Arguments::rule() {
  for (size_t i = 0; i < taken_.size(); ++i) {
    if (taken_[i] || spec_.arguments[i].condition.empty()) continue;
    taken_[i] = true;
    return &spec_.arguments[i];
  }
  return nullptr;
}

void Arguments::require_all_taken(std::string_view known) const {
  for (size_t i = 0; i < taken_.size(); ++i) {
    if (taken_[i]) continue;
    const Argument& a = spec_.arguments[i];
    const std::string what = fmt::format("'{}' has no use for '{}'", spec_.name, a.text());
    fail(what, a.position, known.empty() ? "it takes no argument" : fmt::format("it takes {}", known));
  }
}

}  // namespace sagelab::attention
