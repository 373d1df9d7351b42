// SPDX-License-Identifier: Apache-2.0
#include "app/batch/prompts/prompts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <optional>
#include <sstream>

#include "app/batch/prompts/conditions.h"
#include "app/batch/prompts/csv.h"
#include "attention/error.h"
#include "pipelines/core/utf8.h"

namespace sagelab::batch {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

std::string content_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::stringstream text;
  if (fs::is_regular_file(file)) text << in.rdbuf();
  if (!in || !fs::is_regular_file(file))
    throw Error(file.string() + ": cannot be read", "give --prompts a file of prompts: .txt, .csv or .jsonl");
  return text.str();
}

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n\v\f") == std::string_view::npos;
}

// Adds a prompt; what fill throws becomes its error.
void add(PromptFile& file, int line, const std::function<void(Prompt&)>& fill) {
  Prompt prompt;
  prompt.index = int(file.prompts.size());
  prompt.line = line;
  try {
    fill(prompt);
    check_utf8(prompt.text, "prompt");
    if (is_blank(prompt.text)) throw Error("the prompt is empty", "write what to show");
  } catch (const Error& e) {
    prompt.error = e.what();
    prompt.hint = e.hint();
    if (first_invalid_byte(prompt.text)) prompt.text.clear();
  }
  file.prompts.push_back(std::move(prompt));
}

// Each line that is not blank, with its number.
void for_each_line(std::string_view text, const std::function<void(int, const std::string&)>& use) {
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  for (int number = 1; !text.empty(); ++number) {
    const auto end = std::min(text.find('\n'), text.size());
    if (!is_blank(text.substr(0, end))) use(number, std::string(text.substr(0, end)));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

void fill_from_line(Prompt& prompt, const std::string& line) {
  prompt.text = line;
  check_utf8(line, "line");
  std::tie(prompt.text, prompt.conditions) = split_conditions(line);
  if (!prompt.conditions.is_null()) parse_conditions(prompt.conditions);
  if (prompt.text.starts_with("|0|"))
    throw Error("a prompt for each loop (|0|...|1|...) is not supported: one run makes one video",
                "write one prompt");
}

void fill_from_json(Prompt& prompt, const std::string& line) {
  check_utf8(line, "line");
  prompt.request = json::parse(line, nullptr, false);
  if (!prompt.request.is_object()) {
    prompt.request = nullptr;
    throw Error("the line is no JSON object", "write {\"prompt\": \"...\"} on one line");
  }
  const auto text = prompt.request.find("prompt");
  if (text == prompt.request.end() || !text->is_string())
    throw Error("the request has no prompt", "write {\"prompt\": \"...\"}");
  prompt.text = text->get<std::string>();
}

std::optional<size_t> column_of(const CsvRecord& header, const std::string& name) {
  const auto at = std::find(header.fields.begin(), header.fields.end(), name);
  if (at == header.fields.end()) return std::nullopt;
  return size_t(at - header.fields.begin());
}

void fill_from_row(Prompt& prompt, const CsvRecord& row, const CsvRecord& header) {
  const size_t text = *column_of(header, "text");
  if (text < row.fields.size()) prompt.text = row.fields[text];
  if (row.fields.size() != header.fields.size())
    throw Error(
        fmt::format("the row has {} fields, and the header has {}", row.fields.size(), header.fields.size()),
        "put a text with commas in double quotes");
  if (const auto path = column_of(header, "path")) prompt.path = row.fields[*path];
  check_utf8(prompt.path, "path");
  if (const auto ref = column_of(header, "ref"); ref && !is_blank(row.fields[*ref]))
    parse_conditions({{"ref", row.fields[*ref]}});
}

void read_table(const std::string& text, PromptFile& file) {
  const auto records = parse_csv(text);
  if (records.empty() || !column_of(records.front(), "text"))
    throw Error("no column is named text", "the first line names the columns: text, or path,text");
  const auto& header = records.front();
  std::vector<std::string> unused;
  for (const auto& name : header.fields)
    if (name != "text" && name != "path" && name != "ref") unused.push_back(name);
  if (!unused.empty())
    file.notices.push_back(fmt::format("these columns have no effect: {}", fmt::join(unused, ", ")));
  for (size_t i = 1; i < records.size(); ++i)
    add(file, records[i].line, [&](Prompt& prompt) { fill_from_row(prompt, records[i], header); });
}

PromptFile parse_prompts(const fs::path& file, const std::string& text) {
  PromptFile result;
  auto ending = file.extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(), [](unsigned char c) { return tolower(c); });
  if (ending == ".csv")
    read_table(text, result);
  else if (ending == ".txt")
    for_each_line(text, [&](int number, const std::string& line) {
      add(result, number, [&](Prompt& prompt) { fill_from_line(prompt, line); });
    });
  else if (ending == ".jsonl")
    for_each_line(text, [&](int number, const std::string& line) {
      add(result, number, [&](Prompt& prompt) { fill_from_json(prompt, line); });
    });
  else
    throw Error("of no known kind", "name it x.txt (a prompt a line), x.csv or x.jsonl");
  if (result.prompts.empty()) throw Error("no prompt is in it", "write a prompt a line");
  return result;
}

}  // namespace

PromptFile read_prompts(const fs::path& file) {
  const auto text = content_of(file);
  try {
    return parse_prompts(file, text);
  } catch (const Error& e) {
    throw Error(file.string() + ": " + e.what(), e.hint());
  }
}

}  // namespace sagelab::batch
