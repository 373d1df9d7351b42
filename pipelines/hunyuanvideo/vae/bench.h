// SPDX-License-Identifier: Apache-2.0
// `bench vae`: the released decoder with random weights, on 129 frames of 1280 x 720.
#pragma once

#include "pipelines/registry.h"

namespace sagelab::hunyuanvideo {

BenchVae bench_vae(const Target& target);

}  // namespace sagelab::hunyuanvideo
