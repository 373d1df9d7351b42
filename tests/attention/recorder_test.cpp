// SPDX-License-Identifier: Apache-2.0
#include "attention/recorder.h"

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <thread>

namespace sagelab::attention {
namespace {

Site site(int step, int layer, Branch branch = Branch::Both) {
  return {step, 10, layer, 30, branch, layer, "block"};
}

// "steps layers branch backend", one line a span.
std::string text_of(const std::vector<Span>& spans) {
  std::string text;
  for (const Span& s : spans) {
    text += fmt::format("{}-{} {}-{} {} {}\n", s.first_step, s.last_step, s.first_layer, s.last_layer,
                        to_string(s.branch), s.backend);
  }
  return text;
}

TEST(Recorder, CountsCallsAndFusedCalls) {
  Recorder recorder;
  EXPECT_EQ(recorder.last_served(), "");
  recorder.served(site(0, 0), "a", true);
  recorder.served(site(0, 1), "a", false);
  recorder.served(site(0, 2), "b", true);
  const auto served = recorder.served();
  EXPECT_EQ(served.at("a").calls, 2);
  EXPECT_EQ(served.at("a").fused, 1);
  EXPECT_EQ(served.at("b").calls, 1);
  EXPECT_EQ(recorder.last_served(), "b");
}

TEST(Recorder, SpansJoinStepsOfOnePattern) {
  Recorder recorder;
  for (int step = 0; step < 6; ++step) {
    for (int layer = 0; layer < 4; ++layer) {
      recorder.served(site(step, layer), step >= 2 && layer > 0 && layer < 3 ? "fast" : "slow", false);
    }
  }
  EXPECT_EQ(text_of(recorder.spans()),
            "0-1 0-3 both slow\n"
            "2-5 0-0 both slow\n"
            "2-5 1-2 both fast\n"
            "2-5 3-3 both slow\n");
}

TEST(Recorder, SpansKeepBranchesAndGapsApart) {
  Recorder recorder;
  for (const int step : {0, 1, 3}) {
    recorder.served(site(step, 0, Branch::Uncond), "a", false);
    recorder.served(site(step, 0, Branch::Cond), "b", false);
    recorder.served(site(step, 1, Branch::Cond), "b", false);
    recorder.served(site(step, 1, Branch::Cond), "b", false);
  }
  EXPECT_EQ(text_of(recorder.spans()),
            "0-1 0-1 cond b\n"
            "0-1 0-0 uncond a\n"
            "3-3 0-1 cond b\n"
            "3-3 0-0 uncond a\n");
}

TEST(Recorder, SpansOfLayersThatTwoServe) {
  Recorder recorder;
  for (int layer = 0; layer < 3; ++layer) {
    recorder.served(site(0, layer), "self", false);
    recorder.served(site(0, layer), "cross", false);
  }
  EXPECT_EQ(text_of(recorder.spans()), "0-0 0-2 both self\n0-0 0-2 both cross\n");
}

TEST(Recorder, FallbacksAreListedOnceAndCountedAll) {
  Recorder recorder;
  for (int layer = 0; layer < 5; ++layer) recorder.fell_back({site(1, layer), "a", "b", "too long"});
  recorder.fell_back({site(2, 0), "a", "b", "too short"});
  ASSERT_EQ(recorder.fallbacks().size(), 2u);
  EXPECT_EQ(recorder.fallbacks()[0].site.layer, 0);
  EXPECT_EQ(recorder.fallbacks()[1].reason, "too short");
  EXPECT_EQ(recorder.fallback_count(), 6);
}

TEST(Recorder, LateFiguresComeWithCollect) {
  Recorder recorder;
  for (const int layer : {0, 1}) {
    recorder.served(site(0, layer), "a", layer == 1);
    recorder.timed(site(0, layer), [layer] { return layer == 0 ? 0.25 : 0.5; });
  }
  recorder.measured(site(0, 3), "a", "b", [] { return Errors{0.5, 1, 2, 3}; });
  recorder.measured({site(0, 4), "a", "b", {}});
  EXPECT_EQ(recorder.served().at("a").seconds, 0);
  EXPECT_EQ(recorder.measurements().size(), 1u);
  EXPECT_FALSE(recorder.calls()[0].seconds);
  recorder.collect();
  recorder.collect();
  EXPECT_EQ(recorder.served().at("a").seconds, 0.75);
  ASSERT_EQ(recorder.measurements().size(), 2u);
  EXPECT_EQ(recorder.measurements()[1].site.layer, 3);
  EXPECT_EQ(recorder.measurements()[1].errors.rmse, 2);
}

// "step layer block backend fused seconds", one line a call.
std::string text_of(const std::vector<ServedCall>& calls) {
  std::string text;
  for (const ServedCall& c : calls) {
    text += fmt::format("{} {} {} {} {} {}\n", c.site.step, c.site.layer, c.site.block, c.backend, c.fused,
                        c.seconds.value_or(-1));
  }
  return text;
}

TEST(Recorder, EveryCallKeepsItsSiteAndSeconds) {
  Recorder recorder;
  Site cross = site(0, 1);
  cross.block = "cross";
  recorder.served(site(0, 1), "a", true);
  recorder.served(cross, "b", false);
  recorder.timed(site(0, 1), [] { return 0.5; });  // not the latest of all, but of its site
  recorder.served(site(0, 2), "a", false);
  recorder.served(site(1, 1), "a", true);
  recorder.timed(site(1, 1), [] { return 1.0; });
  recorder.timed(site(1, 1), [] { return 2.0; });  // a second one around the first
  recorder.collect();
  EXPECT_EQ(text_of(recorder.calls()),
            "0 1 block a true 0.5\n"
            "0 1 cross b false -1\n"
            "0 2 block a false -1\n"
            "1 1 block a true 2\n");
  EXPECT_EQ(recorder.served().at("a").seconds, 2.5);
  EXPECT_EQ(recorder.served().at("b").seconds, 0);
}

TEST(Recorder, TimeOfNoCallIsRefused) {
  Recorder recorder;
  recorder.served(site(0, 0), "a", true);
  try {
    recorder.timed(site(0, 1), [] { return 1.0; });
    FAIL();
  } catch (const c10::Error& e) {
    EXPECT_STREQ(e.what_without_backtrace(),
                 "attention: a call of step 0, layer 1 was timed, but nobody served it");
  }
}

TEST(Recorder, ReadersAndAWriterAtOnce) {
  Recorder recorder;
  std::thread writer([&] {
    for (int i = 0; i < 2000; ++i) {
      recorder.served(site(i / 30, i % 30), "a", true);
      recorder.timed(site(i / 30, i % 30), [] { return 1.0; });
      recorder.fell_back({site(0, 0), "x", "a", "no"});
    }
  });
  for (int i = 0; i < 50; ++i) {
    recorder.collect();
    recorder.spans();
    recorder.calls();
    EXPECT_LE(recorder.fallbacks().size(), 1u);
  }
  writer.join();
  recorder.collect();
  EXPECT_EQ(recorder.served().at("a").calls, 2000);
  EXPECT_EQ(recorder.served().at("a").seconds, 2000);
}

}  // namespace
}  // namespace sagelab::attention
