// SPDX-License-Identifier: Apache-2.0
// The one exception for what a user can act on. Anything else that escapes is a bug and says so.
#pragma once

#include <stdexcept>
#include <string>

namespace sagelab {

// what: what went wrong and where. hint: what to do about it; may be empty.
class Error : public std::runtime_error {
 public:
  explicit Error(std::string what, std::string hint = {})
      : std::runtime_error(std::move(what)), hint_(std::move(hint)) {}
  const std::string& hint() const { return hint_; }

 private:
  std::string hint_;
};

}  // namespace sagelab
