// SPDX-License-Identifier: Apache-2.0
#include "app/batch/prompts/csv.h"

#include <fmt/format.h>

#include <utility>

#include "attention/error.h"

namespace sagelab::batch {
namespace {

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {
    constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
    if (text_.starts_with(kByteOrderMark)) text_.remove_prefix(kByteOrderMark.size());
  }
  bool done() const { return at_ == text_.size(); }

  CsvRecord record() {
    CsvRecord record{line_, {}};
    do record.fields.push_back(peek() == '"' ? quoted() : plain());
    while (take(','));
    end_line();
    return record;
  }

 private:
  char peek() const { return done() ? '\0' : text_[at_]; }
  bool take(char c) {
    if (done() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  bool end_line() {
    const bool carriage = take('\r'), feed = take('\n');
    line_ += carriage || feed;
    return carriage || feed;
  }
  bool at_end_of_field() const { return done() || peek() == ',' || peek() == '\n' || peek() == '\r'; }

  std::string plain() {
    const size_t begin = at_;
    while (!at_end_of_field()) ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }

  std::string quoted() {
    const int opened = line_;
    std::string field;
    for (take('"');;) {
      if (done())
        throw Error(fmt::format("line {}: the quotes that open here are never closed", opened),
                    "double the quotes that belong to a text: \"\"");
      if (take('"')) {
        if (!take('"')) break;
        field += '"';
        continue;
      }
      const size_t begin = at_;
      if (!end_line()) ++at_;
      field += text_.substr(begin, at_ - begin);
    }
    if (!at_end_of_field())
      throw Error(fmt::format("line {}: text follows the closing quotes", line_),
                  "double the quotes that belong to a text: \"\"");
    return field;
  }

  std::string_view text_;
  size_t at_ = 0;
  int line_ = 1;
};

}  // namespace

std::vector<CsvRecord> parse_csv(std::string_view text) {
  std::vector<CsvRecord> records;
  for (Reader reader(text); !reader.done();) {
    auto record = reader.record();
    if (record.fields.size() > 1 || !record.fields.front().empty()) records.push_back(std::move(record));
  }
  return records;
}

}  // namespace sagelab::batch
