// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "pipelines/core/stream/placement.h"
#include "pipelines/registry.h"

namespace sagelab::hunyuanvideo {

// The released transformer with random weights, and one call at 129 frames of 1280 x 720.
BenchModel bench(const Target& target);

}  // namespace sagelab::hunyuanvideo
