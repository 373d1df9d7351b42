// SPDX-License-Identifier: Apache-2.0
// What the tests of picture and video pipelines begin with: a family's tiny ones, and the ways to call them.
#pragma once

#include <span>
#include <tuple>

#include "tests/support/pictures/checks.h"
#include "tests/support/pictures/habits.h"

namespace sagelab::testing {

// What tests/oracle/<family>/pipelines.py makes.
struct PipelineFixtures {
  const char* set;
  std::span<const char*const> names, modes;
  // As the dumps "<mode>." of a fixture's folder were made, unresolved.
  Request (*request_of)(const std::filesystem::path& folder, const std::string& mode);

  std::filesystem::path folder(const std::string& name) const { return fixture(set, name); }
  Dump dump(const std::string& name) const { return Dump(folder(name) / "dump.safetensors"); }
  const Family& family() const { return family_of(folder(names.front()) / "model"); }
  Request request(const std::string& name, const std::string& mode) const {
    return request_of(folder(name), mode);
  }
  Request resolved(const std::string& name, const std::string& mode) const {
    return family().resolve(request(name, mode));
  }
  // Of a request that says no more than it must.
  Request defaults(const std::string& name) const {
    Request request;
    request.model = (folder(name) / "model").string();
    request.prompt = "a fox";
    request.device = "cpu";
    return family().resolve(request);
  }
};

// Ours of the texts, by the dump's keys.
inline std::map<std::string, at::Tensor> text_stages(const Conditioning& c) {
  std::map<std::string, at::Tensor> all;
  for (int64_t side = 0; side <= int64_t(c.guided); ++side) {
    const std::string prefix = side < int64_t(c.guided) ? "negative." : "";
    if (c.pooled.defined()) all[prefix + "pooled"] = c.pooled.narrow(0, side, 1);
    all[prefix + "embeds"] = rows_of(c, side);
  }
  return all;
}

using NameAndMode = std::tuple<const char*, const char*>;

inline std::string name_and_mode(const ::testing::TestParamInfo<NameAndMode>& info) {
  return fmt::format("{}_{}", std::get<0>(info.param), std::get<1>(info.param));
}

inline auto every_mode(const PipelineFixtures& fixtures) {
  return ::testing::Combine(::testing::ValuesIn(fixtures.names), ::testing::ValuesIn(fixtures.modes));
}

// Ours of every mode, by the dump's keys. texts(Conditioning): of the texts.
template <class Texts>
std::map<std::string, at::Tensor> stages_of(const PipelineFixtures& fixtures, const std::string& name,
                                            const Texts& texts) {
  const Dump dump = fixtures.dump(name);
  const Family& family = fixtures.family();
  std::map<std::string, at::Tensor> all;
  for (const std::string mode : fixtures.modes) {
    const Request request = fixtures.resolved(name, mode);
    const Steps steps = steps_of(family, request);
    all.merge(texts(steps.conditioning));
    all.merge(picture_stages(family, request, steps, dump, mode));
  }
  return all;
}

}  // namespace sagelab::testing
