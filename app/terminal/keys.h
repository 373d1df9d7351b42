// SPDX-License-Identifier: Apache-2.0
// Single keys from the terminal on stdin, while this lives: no Enter, no echo. Ctrl-C and its like go on
// working, and whatever ends or stops the process gives the terminal back as it was first.
#pragma once

#include <optional>

namespace sagelab {

class Keys {
 public:
  Keys();  // throws nothing: what is no terminal has no keys
  ~Keys();
  Keys(const Keys&) = delete;
  Keys& operator=(const Keys&) = delete;
  // A key that was pressed, without waiting. None while the process runs in the background, and none after a
  // signal that ends it.
  std::optional<char> take();
};

}  // namespace sagelab
