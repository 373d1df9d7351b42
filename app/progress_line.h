// SPDX-License-Identifier: Apache-2.0
// Progress for people: one rewritten line with an ETA on a terminal, plain lines elsewhere.
#pragma once

#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "pipelines/progress.h"

namespace sagelab {

class ProgressLine {
 public:
  ProgressLine(std::FILE* out, bool terminal) : out_(out), terminal_(terminal) {}
  ~ProgressLine() { clear(); }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  void show(const Progress& progress);
  void clear();  // before anything else is written to the terminal

 private:
  void show(const Phase& phase);
  void show(const Step& step);
  void rewrite(const std::string& text);
  void line(const std::string& text);

  std::FILE* out_;
  bool terminal_, dirty_ = false;
  std::string last_;             // the line written last
  std::vector<double> seconds_;  // of each step so far
};

// "0:07", "12:03", "1:02:03"
std::string clock_text(double seconds);
// As much as fits one line of the terminal `out`, or all where it is none: what wraps would be rewritten in
// the wrong place.
std::string cut_to_terminal(const std::string& text, std::FILE* out);

}  // namespace sagelab
