// SPDX-License-Identifier: Apache-2.0
#include "app/failure.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <system_error>

#include "pipelines/run.h"

namespace sagelab {
namespace {

constexpr const char* kBug = "this is a bug in sagelab: please report it with the command that you typed";

}  // namespace

Failed failure(std::string message, std::string hint) {
  Failed failed;
  failed.message = std::move(message);
  failed.hint = std::move(hint);
  return failed;
}

Failed describe(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const Cancelled& e) {
    auto failed = failure(e.what());
    failed.cancelled = true;
    return failed;
  } catch (const Error& e) {
    return failure(e.what(), e.hint());
  } catch (const std::exception& e) {
    if (is_out_of_memory(e)) return failure("out of memory" + asked_for(e), kTakeLessMemory);
    return failure("internal error: " + message_of(e), kBug);
  } catch (...) {
    return failure("internal error", kBug);
  }
}

std::string json_text(const nlohmann::json& json, int indent) {
  return json.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace);
}

void print(const std::string& text) {
  errno = 0;
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (std::fflush(stdout) == 0 && written) return;
  throw Error("cannot write to stdout: " + std::generic_category().message(errno),
              "send it to a file or a pipe that takes it");
}

void print_failure(const Failed& failed) {
  std::string line = "sagelab: " + failed.message;
  if (!failed.hint.empty()) line += "; " + failed.hint;
  if (!failed.latents.empty() && line.find(failed.latents) == std::string::npos)
    line += "; the finished latents are in " + failed.latents;
  std::replace(line.begin(), line.end(), '\n', ' ');
  std::fprintf(stderr, "%s\n", line.c_str());
}

int guarded(const std::function<int()>& command) {
  try {
    return command();
  } catch (const UsageError& e) {
    print_failure(failure(e.what(), e.hint()));
    return kUsage;
  } catch (...) {
    const auto failed = describe(std::current_exception());
    print_failure(failed);
    return failed.cancelled ? kInterrupted : kFailed;
  }
}

}  // namespace sagelab
