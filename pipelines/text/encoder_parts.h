// SPDX-License-Identifier: Apache-2.0
// What the text encoders have in common.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "pipelines/core/config.h"
#include "pipelines/core/layers.h"

namespace sagelab {

// Throws sagelab::Error naming the key where its activation is unknown.
Activation read_activation(Config& config, const std::string& key, const std::string& fallback);

// Throws sagelab::Error for an id that a vocabulary of this size does not have. ids: int64; not looked into
// on the meta device.
void check_ids(const at::Tensor& ids, int64_t vocab_size);

}  // namespace sagelab
