// SPDX-License-Identifier: Apache-2.0
// The table of backends and the grammar that names them:
//   spec := name | name(option=value, ...) | name(word) | wrapper(spec, ...)
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "attention/attention.h"

namespace sagelab::attention {

struct Entry {
  std::string_view spec;  // as a user would type it: "sdpa(flash)"
  std::string_view help;
  // Largest relative L2 error against the fp64 reference that conformance accepts, for N(0, 1) inputs, per
  // input dtype.
  double bound_fp32, bound_bf16, bound_fp16;
  // Largest absolute error of the lse on the same inputs.
  double bound_lse = 1e-4;
  // What the bounds are multiplied by where q, k and v are six times as large: more than 1 where the scores
  // are quantized.
  double large_values = 1;
};

// Every backend that can be named, wrappers left out. Tests, `info` and the window iterate over this.
std::span<const Entry> backends();

// major * 10 + minor of a CUDA device, 90 for sm_90; 0 for any other device and for one that is not there.
int compute_capability(const at::Device& device);

// Throws sagelab::Error for an unknown name, an unknown or unread option, a syntax error (with its position).
BackendPtr make_backend(std::string_view spec);

// The command line's default on a device: "sdpa" on CPU, "prefer(...)" of the fastest on CUDA.
std::string default_spec(const at::Device& device);

}  // namespace sagelab::attention
