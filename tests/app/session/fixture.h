// SPDX-License-Identifier: Apache-2.0
// A Session over a fake family, and what a job of it says.
#pragma once

#include <gtest/gtest.h>

#include "app/failure.h"
#include "app/session.h"
#include "tests/app/fake_family.h"

namespace sagelab::testing {

class SessionTest : public ::testing::Test {
 protected:
  std::shared_ptr<FakeHooks> hooks_ = std::make_shared<FakeHooks>();
  Family family_ = fake_family(hooks_);
  Session session_{[this](const std::filesystem::path&) -> const Family& { return family_; }};

  static Request request() {
    Request r;
    r.model = "fake";
    r.prompt = "p";
    r.attention = "sdpa(math)";
    return r;
  }

  // Everything that the job says, its end last.
  std::vector<Progress> finish(JobId job) {
    std::vector<Progress> said;
    for (int i = 0; i < 600; ++i) {
      auto progress = session_.wait(std::chrono::milliseconds(100));
      if (!progress || progress->job != job) continue;
      said.push_back(*progress);
      if (std::holds_alternative<Finished>(said.back().what) ||
          std::holds_alternative<Failed>(said.back().what))
        return said;
    }
    ADD_FAILURE() << "the job never ended";
    return said;
  }
  Failed failure_of(JobId job) {
    const auto end = finish(job).back();
    const auto* failed = std::get_if<Failed>(&end.what);
    return failed ? *failed : sagelab::failure("it did not fail");
  }
};

}  // namespace sagelab::testing
