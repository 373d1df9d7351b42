// SPDX-License-Identifier: Apache-2.0
// The matrix instructions whose accumulators are looked at, all with an fp32 accumulator by name.
#pragma once

namespace sagelab::attention::study {

enum class Instruction { MmaFp16, MmaBf16, MmaFp8, WgmmaFp8 };

}  // namespace sagelab::attention::study
