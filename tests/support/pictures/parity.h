// SPDX-License-Identifier: Apache-2.0
// A family's tiny pipelines against diffusers, and against what diffusers gives with one thing wrong.
#pragma once

#include <utility>

#include "tests/support/pictures/fixtures.h"

namespace sagelab::testing {

class PipelineParity : public ::testing::TestWithParam<NameAndMode> {
 protected:
  explicit PipelineParity(const PipelineFixtures& fixtures) : fixtures_(fixtures) {}

  void expect_texts(const Conditioning& c) const {
    ASSERT_EQ(c.guided, guided);
    ASSERT_EQ(c.embeds.size(0), guided ? 2 : 1);
    EXPECT_EQ(c.pooled.defined(), dump.has("pooled"));
    for (const auto& [key, rows] : text_stages(c)) EXPECT_TRUE(matches(rows, dump, key, 2e-6));
  }
  void expect_decoding() const {
    const at::Tensor& last = dump[fmt::format("{}.latents.{}", mode, *request.steps - 1)];
    const at::Tensor frames = decoded(family, request, last);
    EXPECT_EQ(frames.size(0), *request.num_frames);
    const std::string key = mode + ".image";
    EXPECT_TRUE(matches(as_dumped(frames, dump[key]), dump, key, 5e-6));
  }
  void expect_pixels_and_forwards(int forwards) const {
    expect_picture(family, request, dump[mode + ".pixels"]);
    EXPECT_EQ(family.plan(request).forwards, forwards);
  }

 private:
  const PipelineFixtures& fixtures_;

 protected:
  const Family& family = fixtures_.family();
  const std::string name = std::get<0>(GetParam()), mode = std::get<1>(GetParam());
  const Dump dump = fixtures_.dump(name);
  const Request request = fixtures_.resolved(name, mode);
  const bool guided = mode != "plain";
};

using LeastMutants = std::pair<const char*, size_t>;  // of a fixture: a list that shrinks must be noticed

inline std::string mutants_name(const ::testing::TestParamInfo<LeastMutants>& info) {
  return info.param.first;
}

class PipelineMutation : public ::testing::TestWithParam<LeastMutants> {
 protected:
  const std::string name = GetParam().first;

  // ours: every stage, by the dump's keys.
  void expect_every_mutant_fails(const PipelineFixtures& fixtures,
                                 const std::map<std::string, at::Tensor>& ours,
                                 double (*bound)(const std::string& stage) = pipeline_bound) const {
    const Dump mutants(fixtures.folder(name) / "mutants.safetensors");
    EXPECT_GE(mutants.tensors().size(), GetParam().second);
    expect_mutants_fail(ours, fixtures.dump(name), mutants, bound);
  }
};

}  // namespace sagelab::testing
