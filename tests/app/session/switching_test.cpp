// SPDX-License-Identifier: Apache-2.0
#include "attention/error.h"
#include "tests/app/session/fixture.h"
#include "tests/app/support.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;

TEST_F(SessionTest, AttentionSwitchesAtTheNextForward) {
  EXPECT_FALSE(session_.set_attention("sdpa(math)")) << "nothing runs";
  hooks_->step = [&](int i) {
    if (i == 1) {
      EXPECT_TRUE(session_.set_attention("reference"));
    }
  };
  auto r = request();
  r.steps = 4;
  const auto said = finish(session_.submit(r));
  const auto* finished = std::get_if<Finished>(&said.back().what);
  ASSERT_TRUE(finished);
  const auto& spans = finished->frames.report.at("attention").at("spans");
  ASSERT_EQ(spans.size(), 2u) << spans.dump();
  EXPECT_EQ(spans[0].at("steps"), (std::vector<int>{0, 1})) << "step 1 had begun with the old backend";
  EXPECT_EQ(spans[0].at("backend"), "sdpa(math)");
  EXPECT_EQ(spans[1].at("steps"), (std::vector<int>{2, 3}));
  EXPECT_EQ(spans[1].at("backend"), "reference");
  EXPECT_THROW(session_.set_attention("nonsense"), Error);
}

TEST_F(SessionTest, AfterTheLastStepThereIsNothingToSwitch) {
  hooks_->step = [&](int) { EXPECT_TRUE(session_.set_attention("reference")); };
  int decoded = 0;
  hooks_->decode = [&] {
    decoded += 1;
    EXPECT_FALSE(session_.set_attention("sdpa(math)"));
  };
  const TempFolder folder;
  const std::string file = folder / "z.safetensors";
  finish(session_.submit(request(), {.save = file, .decode = {}}));
  finish(session_.submit(request(), {.save = {}, .decode = file}));
  EXPECT_EQ(decoded, 2);
}

}  // namespace
}  // namespace sagelab
