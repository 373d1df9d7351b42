// SPDX-License-Identifier: Apache-2.0
#include "app/failure.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdio>
#include <new>

#include "pipelines/run.h"

namespace sagelab {
namespace {

constexpr const char* kBug = "this is a bug in sagelab: please report it with the command that you typed";

// LibTorch's messages go on with source lines and, at times, addresses.
std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

Failed out_of_memory(const std::string& detail) {
  return failure(
      "out of memory" + (detail.empty() ? "" : ": " + detail),
      "ask for fewer frames or a smaller size, --vae-tiling on, --offload encoders or --dtype bf16");
}

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
  } catch (const c10::OutOfMemoryError& e) {
    return out_of_memory(first_line(e.what_without_backtrace()));
  } catch (const c10::Error& e) {
    const auto text = first_line(e.what_without_backtrace());
    if (text.find("can't allocate memory") != std::string::npos) return out_of_memory(text);
    return failure("internal error: " + text, kBug);
  } catch (const std::bad_alloc&) {
    return out_of_memory({});
  } catch (const std::exception& e) {
    return failure("internal error: " + first_line(e.what()), kBug);
  } catch (...) {
    return failure("internal error", kBug);
  }
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
