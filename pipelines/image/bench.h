// SPDX-License-Identifier: Apache-2.0
// `bench vae`: the decoder of FLUX.1 and SD3 with random weights, for a picture of 1024 x 1024.
#pragma once

#include "pipelines/registry.h"

namespace sagelab {

BenchVae bench_picture_vae(const Target& target);

}  // namespace sagelab
