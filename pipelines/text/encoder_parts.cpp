// SPDX-License-Identifier: Apache-2.0
#include "pipelines/text/encoder_parts.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "attention/error.h"

namespace sagelab {

Activation read_activation(Config& config, const std::string& key, const std::string& fallback) {
  const std::string name = config.text(key, fallback);
  try {
    return activation_from(name);
  } catch (const Error& error) {
    throw Error(fmt::format("{}: {} = \"{}\" is not supported", config.where(), key, name), error.hint());
  }
}

void check_ids(const at::Tensor& ids, int64_t vocab_size) {
  if (ids.is_meta() || ids.numel() == 0) return;
  const auto largest = ids.max().item<int64_t>(), smallest = ids.min().item<int64_t>();
  if (smallest < 0 || largest >= vocab_size)
    throw Error(fmt::format("token {} is not in the text encoder's vocabulary of {}",
                            smallest < 0 ? smallest : largest, vocab_size),
                "tokenizer and text encoder are not of one checkpoint");
}

}  // namespace sagelab
