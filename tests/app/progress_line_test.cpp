// SPDX-License-Identifier: Apache-2.0
#include "app/progress_line.h"

#include <pty.h>
#include <unistd.h>

#include "tests/app/support.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;

std::string shown(bool terminal, const std::vector<Progress>& all) {
  const TempFolder folder;
  auto* file = std::fopen((folder / "f").c_str(), "w");
  {
    ProgressLine line(file, terminal);
    for (const auto& progress : all) line.show(progress);
  }
  std::fclose(file);
  return read_file(folder / "f");
}

Progress step(int i, int n, double seconds) {
  return {1, Step{.i = i, .n = n, .seconds = seconds, .backend = "sdpa(math)", .preview = nullptr}};
}

TEST(ProgressLineTest, PlainLinesWithAnEta) {
  const auto text = shown(false, {{1, Phase{"load", 5, 10}},
                                  {1, Phase{"load", 2000000, 2000000}},
                                  step(1, 4, 9.0),
                                  step(2, 4, 2.0),
                                  step(3, 4, 2.0),
                                  step(4, 4, 2.0),
                                  {1, Phase{"decode", 3, 3}},
                                  {1, Phase{"decode", 3, 3}}});
  EXPECT_EQ(text,
            "load 2 MB of 2 MB\n"
            "denoise 1/4  9.00 s/step  sdpa(math)  ETA 0:27\n"
            "denoise 2/4  2.00 s/step  sdpa(math)  ETA 0:11\n"
            "denoise 3/4  2.00 s/step  sdpa(math)  ETA 0:02\n"
            "denoise 4/4  2.00 s/step  sdpa(math)  ETA 0:00\n"
            "decode 3/3\n");
}

TEST(ProgressLineTest, ATerminalHasOneLineThatGoesAway) {
  EXPECT_EQ(shown(true, {step(1, 2, 1.5), {1, Phase{"decode", 1, 3}}}),
            "\rdenoise 1/2  1.50 s/step  sdpa(math)  ETA 0:02\x1b[K"
            "\rdecode 1/3\x1b[K"
            "\r\x1b[K");
}

TEST(ProgressLineTest, ALineIsCutToItsTerminal) {
  int screen = -1, keyboard = -1;
  const winsize size{24, 10, 0, 0};
  if (::openpty(&screen, &keyboard, nullptr, nullptr, &size) != 0) GTEST_SKIP() << "no pseudo terminal here";
  auto* out = ::fdopen(keyboard, "w");
  EXPECT_EQ(cut_to_terminal("denoise 1/50  2.00 s/step", out), "denoise 1");
  EXPECT_EQ(cut_to_terminal("\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9", out),
            "\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9");
  EXPECT_EQ(cut_to_terminal("denoise", out), "denoise");
  std::fclose(out);
  ::close(screen);
}

TEST(ProgressLineTest, Clock) {
  EXPECT_EQ(clock_text(0), "0:00");
  EXPECT_EQ(clock_text(61.2), "1:02");
  EXPECT_EQ(clock_text(3723), "1:02:03");
}

}  // namespace
}  // namespace sagelab
