// SPDX-License-Identifier: Apache-2.0
// What a session takes between requests like each other, against what is foretold of it.
#include <gtest/gtest.h>

#include "app/session.h"
#include "pipelines/common/outlook.h"
#include "tests/support/parity.h"

namespace sagelab {
namespace {

Frames finished(Session& session, const Request& request) {
  session.expect({request});
  const JobId job = session.submit(request);
  for (;;) {
    const auto progress = session.wait(std::chrono::seconds(60));
    if (!progress) throw std::runtime_error("it does not end");
    if (progress->job != job) continue;
    if (const auto* failed = std::get_if<Failed>(&progress->what)) throw std::runtime_error(failed->message);
    if (const auto* done = std::get_if<Finished>(&progress->what)) return done->frames;
  }
}

TEST(SessionMemory, BetweenOthersARunTakesWhatIsForetold) {
  Request request;
  request.model = (testing::fixture("flux_pipelines", "dev") / "model").string();
  request.device = "cpu";
  request.width = 128, request.height = 96, request.steps = 2;
  request.attention = "sdpa", request.offload = "encoders";
  const Family& family = family_of(request.model);
  request = family.resolve(request);
  const int64_t available = memory_for_tensors(at::kCPU);
  const double foretold = double(peak_among_others(family, request, available));
  EXPECT_GT(foretold, double(family.plan(request).peak_bytes()));
  EXPECT_EQ(peak_among_others(family, request, 0), family.plan(request).peak_bytes());
  Session session;
  double most = 0;
  for (const auto* prompt : {"a cat", "a dog", "a bird"}) {
    request.prompt = prompt;
    most = std::max(most, finished(session, request).report["memory"]["peak_bytes"].get<double>());
  }
  EXPECT_LE(most, foretold);
  EXPECT_GT(most, foretold * .8);
}

}  // namespace
}  // namespace sagelab
