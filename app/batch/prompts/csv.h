// SPDX-License-Identifier: Apache-2.0
// Comma-separated values (RFC 4180): a field in double quotes may hold commas, line breaks and doubled
// quotes. LF, CRLF or CR ends a record; a byte order mark in front is left out, and so are empty lines. Plain
// C++.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sagelab::batch {

struct CsvRecord {
  int line = 0;  // on which it begins, from 1
  std::vector<std::string> fields;
};

// Throws sagelab::Error naming the line: quotes that are never closed, or text behind closed ones.
std::vector<CsvRecord> parse_csv(std::string_view text);

}  // namespace sagelab::batch
