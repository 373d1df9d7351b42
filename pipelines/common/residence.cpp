// SPDX-License-Identifier: Apache-2.0
#include "pipelines/common/residence.h"

#include <fmt/format.h>

#include "attention/dtype.h"
#include "attention/error.h"
#include "pipelines/core/memory.h"

namespace sagelab {

Residence::Residence(Components components, Target target, Available available)
    : components_(std::move(components)), target_(target), available_(std::move(available)) {
  components_.check();
}

// On a CPU the system would end the process where memory runs out.
void Residence::require_room(const std::string& name) const {
  const int64_t needed = bytes(name), there = available_(target_.device);
  if (needed <= there) return;
  throw Error(
      fmt::format("out of memory: {} takes {} in {} on {}, and {} are free", name, human_bytes(needed),
                  dtype_name(target_.dtype), device_name(target_.device), human_bytes(there)),
      fmt::format("use --dtype bf16, --offload {} or a machine with more memory",
                  target_.device.is_cpu() ? "encoders" : "layers"));
}

}  // namespace sagelab
