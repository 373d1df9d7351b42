// SPDX-License-Identifier: Apache-2.0
#include "app/progress_line.h"

#include <fmt/format.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cmath>

#include "app/report/median.h"
#include "pipelines/core/memory.h"
#include "pipelines/core/utf8.h"

namespace sagelab {

std::string clock_text(double seconds) {
  const auto s = int64_t(std::ceil(seconds));
  if (s >= 3600) return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
  return fmt::format("{}:{:02}", s / 60, s % 60);
}

std::string cut_to_terminal(const std::string& text, std::FILE* out) {
  winsize size{};
  if (::ioctl(fileno(out), TIOCGWINSZ, &size) != 0 || size.ws_col < 2) return text;
  size_t end = 0;
  for (int columns = 1; columns < size.ws_col && end < text.size(); ++columns)
    end += std::max<size_t>(utf8_length(std::string_view(text).substr(end)), 1);
  return text.substr(0, end);
}

void ProgressLine::show(const Progress& progress) {
  if (const auto* phase = std::get_if<Phase>(&progress.what)) show(*phase);
  if (const auto* step = std::get_if<Step>(&progress.what)) show(*step);
}

void ProgressLine::show(const Phase& phase) {
  if (phase.n <= 0 || phase.name == "denoise") return;  // denoising is told by its steps
  const auto done = phase.name == "load" ? fmt::format("{} of {}", human_bytes(phase.i), human_bytes(phase.n))
                                         : fmt::format("{}/{}", phase.i, phase.n);
  const auto text = fmt::format("{} {}", phase.name, done);
  if (terminal_)
    rewrite(text);
  else if (phase.i == phase.n &&
           text != last_)  // a phase may tell its end twice: by its parts and as a whole
    line(text);
}

void ProgressLine::show(const Step& step) {
  seconds_.push_back(step.seconds);
  // The first step of a run warms up caches and kernels.
  const auto typical = median({seconds_.begin() + (seconds_.size() > 2 ? 1 : 0), seconds_.end()});
  const int done = step.i;  // counted from one
  const auto text = fmt::format("denoise {}/{}  {:.2f} s/step  {}  ETA {}", done, step.n, step.seconds,
                                step.backend, clock_text(typical * (step.n - done)));
  terminal_ ? rewrite(text) : line(text);
  if (done == step.n) seconds_.clear();
}

void ProgressLine::rewrite(const std::string& text) {
  std::fprintf(out_, "\r%s\x1b[K", cut_to_terminal(text, out_).c_str());
  std::fflush(out_);
  dirty_ = true;
}

void ProgressLine::line(const std::string& text) {
  std::fprintf(out_, "%s\n", text.c_str());
  std::fflush(out_);
  last_ = text;
}

void ProgressLine::clear() {
  if (dirty_) std::fprintf(out_, "\r\x1b[K");
  if (dirty_) std::fflush(out_);
  dirty_ = false;
}

}  // namespace sagelab
