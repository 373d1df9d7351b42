// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace sagelab {

// A video's tokens: in patches.
struct Grid {
  int64_t frames = 0, rows = 0, columns = 0;
  int64_t tokens() const { return frames * rows * columns; }
};

}  // namespace sagelab
