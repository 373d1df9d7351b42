// SPDX-License-Identifier: Apache-2.0
// A picture of latents without decoding them.
#pragma once

#include <ATen/core/Tensor.h>

namespace sagelab {

// The first three principal components over channels as red, green and blue, two standard deviations to the
// ends of the range: [T, C, h, w] -> [T, 3, h, w] in [-1, 1]. Checkpoints carry no factors for a better one.
at::Tensor principal_colours(const at::Tensor& latents);

}  // namespace sagelab
