// SPDX-License-Identifier: Apache-2.0
// Fixtures of transformers that leave padding out (tests/oracle/joint/padded_texts.py): a whole batch, and
// each sample of it without its padding.
#pragma once

#include <fmt/format.h>

#include <map>
#include <string>

#include "tests/support/transformer_parity.h"

namespace sagelab::testing {

struct Sample {
  const char* name;
  int index;
};

inline std::filesystem::path transformer_folder(const char* family, const std::string& name) {
  return fixture(family, name) / "transformer";
}
inline Dump batch_dump(const char* family, const std::string& name) {
  return Dump(fixture(family, name) / "dump.safetensors");
}
inline Dump sample_dump(const char* family, const Sample& sample) {
  return Dump(fixture(family, sample.name) / fmt::format("sample.{}.safetensors", sample.index));
}

inline std::string sample_name(const ::testing::TestParamInfo<Sample>& info) {
  return fmt::format("{}_{}", info.param.name, info.param.index);
}

// Ours of each key stays within the bound of diffusers' own, and outside twice that of what diffusers gives
// with one thing wrong, "<mutant>|<key>". Tables, "far.<name>", are theirs bit by bit.
inline void expect_every_mutant_fails(const std::map<std::string, at::Tensor>& ours, const Dump& dump,
                                      const Dump& mutants, size_t least) {
  EXPECT_GE(mutants.tensors().size(), least) << "a list that shrinks must be noticed";
  for (const auto& [label, wrong] : mutants.tensors()) {
    const std::string key = label.substr(label.find('|') + 1);
    const double allowed = key.starts_with("far.") ? 0 : tolerance(dump, key, kBound);
    EXPECT_LE(relative_l2(ours.at(key), dump[key]), allowed);
    EXPECT_GT(relative_l2(ours.at(key), wrong), 2 * allowed) << label << " is within reach of the bound";
  }
}

}  // namespace sagelab::testing
