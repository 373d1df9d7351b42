// SPDX-License-Identifier: Apache-2.0
// Prompt files, by their endings:
// - .txt: a prompt a line, with Open-Sora's conditions behind it (conditions.h); empty lines count for
// nothing;
// - .csv: the columns text and, where it is there, path, which is kept with the results; ref must be empty;
// - .jsonl: a request a line, with the keys of our request JSON, each over the batch's own.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace sagelab::batch {

struct Prompt {
  int index = 0;  // among the prompts of the file, from 0
  int line = 0;   // on which it begins, from 1
  std::string text;
  std::string path;           // of the table; empty: none
  nlohmann::json conditions;  // Open-Sora's, or null
  nlohmann::json request;     // a JSON Lines object, or null
  std::string error, hint;    // what is wrong with its line; empty: nothing is
};

struct PromptFile {
  std::vector<Prompt> prompts;
  std::vector<std::string> notices;  // what of the file has no effect
};

// A bad line is an error of its prompt. Throws sagelab::Error naming the file: unreadable, of no known kind,
// no column text, quotes that never close, or without any prompt.
PromptFile read_prompts(const std::filesystem::path& file);

}  // namespace sagelab::batch
