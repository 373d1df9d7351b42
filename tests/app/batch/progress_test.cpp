// SPDX-License-Identifier: Apache-2.0
#include "app/batch/progress.h"

#include <gmock/gmock.h>

#include "tests/app/support.h"

namespace sagelab::batch {
namespace {

using namespace sagelab::testing;
using std::chrono::seconds;

class BatchProgressTest : public ::testing::Test {
 protected:
  // What two runs of the same work print; the first takes 10 s of loading and 20 s of steps.
  std::string printed(bool terminal) {
    std::FILE* out = std::fopen((folder_ / "out").c_str(), "w");
    {
      BatchProgress progress(out, terminal, 2, [this] { return now_; });
      progress.begin("1/2", "sample_0000.mp4", 1);
      now_ += seconds(10);
      progress.show({1, Phase{"denoise", 0, 1}});
      now_ += seconds(10);
      progress.show({1, Step{1, 2, 10, "sdpa", nullptr}});
      now_ += seconds(10);
      progress.show({1, Step{2, 2, 10, "sdpa", nullptr}});
      progress.end();
      progress.note("a notice");
      progress.begin("2/2", "sample_0001.mp4", 1);
    }
    std::fclose(out);
    return read_file(folder_ / "out");
  }
  TempFolder folder_;
  BatchProgress::Clock::time_point now_{};
};

TEST_F(BatchProgressTest, PlainLinesSayWhatIsLeft) {
  EXPECT_EQ(printed(false),
            "batch 1/2  0:00 so far  sample_0000.mp4\n"
            "denoise 1/2  10.00 s/step  sdpa  ETA 0:10\n"
            "denoise 2/2  10.00 s/step  sdpa  ETA 0:00\n"
            "sagelab: a notice\n"
            "batch 2/2  0:30 so far  ETA 0:20  sample_0001.mp4\n");
}

TEST_F(BatchProgressTest, ATerminalHasTwoLinesThatAreRewritten) {
  const auto text = printed(true);
  EXPECT_THAT(text, ::testing::StartsWith("\rbatch 1/2  0:00 so far  sample_0000.mp4\x1b[K\n"));
  EXPECT_THAT(text, ::testing::HasSubstr("\x1b[1A\rbatch 1/2  0:20 so far  ETA 0:30  sample_0000.mp4\x1b[K\n"
                                         "\rdenoise 1/2  10.00 s/step  sdpa  ETA 0:10\x1b[K"));
  EXPECT_THAT(text, ::testing::HasSubstr("\r\x1b[K\x1b[1A\r\x1b[Ksagelab: a notice\n"));
  EXPECT_THAT(text, ::testing::EndsWith("\x1b[1A\r\x1b[K")) << "nothing is left on the screen";
}

}  // namespace
}  // namespace sagelab::batch
