// SPDX-License-Identifier: Apache-2.0
// `bench vae`: the released decoder with random weights.
#pragma once

#include "pipelines/cogvideox/vae/decoder.h"
#include "pipelines/registry.h"

namespace sagelab::cogvideox {

// latents: frames, height and width of what is decoded.
BenchVae bench_vae(const Decoding& latents, const Target& target);

}  // namespace sagelab::cogvideox
