// SPDX-License-Identifier: Apache-2.0
// Keys that the configs of autoencoders share.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pipelines/core/config.h"
#include "pipelines/core/layers.h"

namespace sagelab {

// act_fn: diffusers' get_activation, without "mish", which no released model uses. Throws sagelab::Error.
Activation act_fn_of(Config& config);
// block_out_channels: 1 to 8 multiples of norm_num_groups = groups. Throws sagelab::Error.
std::vector<int64_t> block_widths_of(Config& config, const std::vector<int64_t>& fallback, int64_t groups);
// scaling_factor, above 0.
double scaling_factor_of(Config& config, double fallback);
// A list that names one type of block for each of `count`, and no other; absent: of `fallback`.
void require_blocks(Config& config, const std::string& key, const std::string& type, size_t count,
                    size_t fallback);

}  // namespace sagelab
