// SPDX-License-Identifier: Apache-2.0
// What --offload says of a resolved request.
#pragma once

#include "pipelines/request.h"

namespace sagelab {

// Text encoders are freed once the prompt is encoded.
inline bool frees_encoders(const Request& request) {
  return request.offload == "encoders" || request.offload == "layers";
}

}  // namespace sagelab
