// SPDX-License-Identifier: Apache-2.0
// From an exception to what a person reads: one line, an exit code, never a stack trace.
#pragma once

#include <exception>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "attention/error.h"
#include "pipelines/progress.h"

namespace sagelab {

constexpr int kDone = 0, kFailed = 1, kUsage = 2, kInterrupted = 130;

// The command line itself is wrong: exit code 2.
class UsageError : public Error {
 public:
  using Error::Error;
};

Failed failure(std::string message, std::string hint = {});
Failed describe(const std::exception_ptr& error);

// JSON on one line, or indented. What is not UTF-8 (a path may be anything) becomes U+FFFD.
std::string json_text(const nlohmann::json& json, int indent = -1);
// Results on stdout. Throws sagelab::Error where they cannot be written.
void print(const std::string& text);

// "sagelab: <message>; <hint>" on stderr, always one line.
void print_failure(const Failed& failed);

// Runs a command; prints what escapes it and turns it into an exit code.
int guarded(const std::function<int()>& command);

}  // namespace sagelab
