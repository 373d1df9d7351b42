// SPDX-License-Identifier: Apache-2.0
// `bench vae`: the released decoder with random weights, on 163 frames of 848 x 480.
#pragma once

#include "pipelines/registry.h"

namespace sagelab::mochi {

BenchVae bench_vae(const Target& target);

}  // namespace sagelab::mochi
