// SPDX-License-Identifier: Apache-2.0
// Encoded texts, kept from run to run: those of the last request, so that another seed does not load the
// encoders again, and those of requests that are expected.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <type_traits>
#include <utility>
#include <vector>

#include "attention/error.h"
#include "pipelines/request.h"
#include "pipelines/run.h"

namespace sagelab {

// Text: what the encoders read of one side of a request, ordered. Row: what they make of it, on the host.
template <class Text, class Row>
class TextRows {
 public:
  using TextsOf = std::vector<Text> (*)(const Request&);  // those of one request
  explicit TextRows(TextsOf texts_of) : texts_of_(texts_of) {}

  void expect(const std::vector<Request>& requests) {
    expected_.clear();
    for (const Request& request : requests)
      for (Text& text : texts_of_(request)) expected_.push_back(std::move(text));
  }

  // Forgets what is neither wanted nor expected. True where all that is wanted is known.
  bool keep(const std::vector<Text>& wanted) {
    const auto is_among = [](const std::vector<Text>& all, const Text& text) {
      return std::find(all.begin(), all.end(), text) != all.end();
    };
    std::erase_if(rows_, [&](const auto& row) {
      return !is_among(wanted, row.first) && !is_among(expected_, row.first);
    });
    return std::all_of(wanted.begin(), wanted.end(), [&](const Text& text) { return rows_.contains(text); });
  }

  // The tokens of what is wanted and not known; ahead: and of what is expected.
  template <class Tokenize>
  auto tokens(const std::vector<Text>& wanted, bool ahead, const Tokenize& tokenize) const {
    std::map<Text, std::invoke_result_t<Tokenize, const Text&>> all;
    const auto add = [&](const Text& text) {
      if (!rows_.contains(text) && !all.contains(text)) all.emplace(text, tokenize(text));
    };
    std::for_each(wanted.begin(), wanted.end(), add);
    if (!ahead) return all;
    for (const Text& text : expected_) {
      try {
        add(text);
      } catch (const Error&) {  // its own run will say so
      }
    }
    return all;
  }

  // Encodes those, one at a time, as diffusers does: the sum of a matrix product depends on the batch.
  // Progress where there are more than wanted.
  template <class All, class Encode>
  void add(const All& tokens, size_t wanted, const RunContext& run, const Encode& encode) {
    add_in_passes(tokens, wanted, run, [&](const auto& ids, Row& row) { row = encode(ids); });
  }

  // Likewise with several encoders: the first pass adds its own part, pass(ids, row), to the row of every
  // text before the second begins, so that two of them need not be loaded at once.
  template <class All, class... Passes>
  void add_in_passes(const All& tokens, size_t wanted, const RunContext& run, const Passes&... passes) {
    std::map<Text, Row> begun;
    size_t done = 0;
    const size_t all = tokens.size() * sizeof...(passes);
    const auto go = [&](const auto& pass) {
      for (const auto& [text, ids] : tokens) {
        run.check_cancelled();
        pass(ids, begun[text]);
        if (++done > all - tokens.size()) rows_[text] = std::move(begun[text]);
        if (tokens.size() > wanted) run.say(Phase{"encode", int64_t(done), int64_t(all)});
      }
    };
    (go(passes), ...);
  }

  const Row& at(const Text& text) const { return rows_.at(text); }
  std::vector<const Row*> of(const std::vector<Text>& texts) const {
    std::vector<const Row*> all;
    for (const Text& text : texts) all.push_back(&rows_.at(text));
    return all;
  }

 private:
  TextsOf texts_of_;
  std::map<Text, Row> rows_;
  std::vector<Text> expected_;
};

}  // namespace sagelab
