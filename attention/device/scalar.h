// SPDX-License-Identifier: Apache-2.0
// The element types that kernels are made for, named without a Torch header.
#pragma once

namespace sagelab::kernel {

enum class Scalar : int { Float, Half, BFloat16 };

}  // namespace sagelab::kernel
