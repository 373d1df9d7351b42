// SPDX-License-Identifier: Apache-2.0
#include "app/batch/prompts/csv.h"

#include <gtest/gtest.h>

#include "attention/error.h"

namespace sagelab::batch {
namespace {

using Fields = std::vector<std::string>;
using Lines = std::vector<Fields>;

Lines fields_of(std::string_view text) {
  Lines all;
  for (const auto& record : parse_csv(text)) all.push_back(record.fields);
  return all;
}

std::string failure_of(std::string_view text) {
  try {
    parse_csv(text);
    return "";
  } catch (const Error& e) {
    return e.what();
  }
}

TEST(Csv, QuotedFieldsHoldCommasQuotesAndLineBreaks) {
  EXPECT_EQ(fields_of("a,b\n\"x, \"\"y\"\"\",\"one\ntwo\"\n"), (Lines{{"a", "b"}, {"x, \"y\"", "one\ntwo"}}));
  EXPECT_EQ(fields_of("\"one\r\ntwo\"\r\nthree"), (Lines{{"one\r\ntwo"}, {"three"}}));
}

TEST(Csv, LinesEndInAnyWayAndTheLastNeedNotEnd) {
  const Lines expected{{"a", "b"}, {"c", "d"}};
  for (const auto* text : {"a,b\nc,d", "a,b\r\nc,d\r\n", "a,b\rc,d\r",
                           "\xEF\xBB\xBF"
                           "a,b\n\nc,d\n\n"})
    EXPECT_EQ(fields_of(text), expected) << text;
}

TEST(Csv, EmptyFieldsCount) {
  EXPECT_EQ(fields_of("a,,\n,\n\"\",x"), (Lines{{"a", "", ""}, {"", ""}, {"", "x"}}));
  EXPECT_EQ(fields_of(""), Lines{});
}

TEST(Csv, QuotesWithinAPlainFieldAreText) {
  EXPECT_EQ(fields_of("a 5\" disk,b"), (Lines{{"a 5\" disk", "b"}}));
}

TEST(Csv, RecordsKnowTheirLines) {
  const auto records = parse_csv("h\n\n\"one\ntwo\nthree\"\r\nx\n");
  ASSERT_EQ(records.size(), 3u);
  EXPECT_EQ(records[0].line, 1);
  EXPECT_EQ(records[1].line, 3);
  EXPECT_EQ(records[2].line, 6);
}

TEST(Csv, WhatCannotBeReadIsNamedByItsLine) {
  EXPECT_EQ(failure_of("a\nb\n\"never\nclosed"), "line 3: the quotes that open here are never closed");
  EXPECT_EQ(failure_of("a\n\"b\"c,d"), "line 2: text follows the closing quotes");
}

}  // namespace
}  // namespace sagelab::batch
