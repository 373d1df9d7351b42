// SPDX-License-Identifier: Apache-2.0
#include "app/batch/progress.h"

#include <fmt/format.h>

#include <algorithm>

namespace sagelab::batch {

BatchProgress::BatchProgress(std::FILE* out, bool terminal, double work,
                             std::function<Clock::time_point()> now)
    : out_(out),
      terminal_(terminal),
      now_(std::move(now)),
      line_(out, terminal),
      left_(work),
      start_(now_()) {}

std::string BatchProgress::text() const {
  const auto seconds = [&](Clock::time_point since) {
    return std::chrono::duration<double>(now_() - since).count();
  };
  auto text = fmt::format("batch {}  {} so far", count_, clock_text(seconds(start_)));
  const double done = done_ + run_done_, left = left_ - run_done_;
  if (first_step_ && done > 0) text += "  ETA " + clock_text(seconds(*first_step_) * left / done);
  return text + "  " + name_;
}

void BatchProgress::begin(const std::string& count, const std::string& name, double work) {
  clear();
  count_ = count;
  name_ = name;
  run_ = work;
  run_done_ = 0;
  if (terminal_) return draw();
  std::fprintf(out_, "%s\n", text().c_str());
  std::fflush(out_);
}

void BatchProgress::draw() {
  const auto above = cut_to_terminal(text(), out_);
  std::fprintf(out_, "%s\r%s\x1b[K\n", drawn_ ? "\x1b[1A" : "", above.c_str());
  std::fflush(out_);
  drawn_ = true;
}

void BatchProgress::show(const Progress& progress) {
  const auto* phase = std::get_if<Phase>(&progress.what);
  if (phase && phase->name == "denoise" && !first_step_) first_step_ = now_();
  if (const auto* step = std::get_if<Step>(&progress.what); step && step->n > 0)
    run_done_ = run_ * step->i / step->n;
  if (terminal_) draw();
  line_.show(progress);
}

void BatchProgress::end() {
  done_ += run_;
  left_ = std::max(0.0, left_ - run_);
  run_ = run_done_ = 0;
}

void BatchProgress::note(const std::string& text) {
  clear();
  std::fprintf(out_, "sagelab: %s\n", text.c_str());
  std::fflush(out_);
}

void BatchProgress::clear() {
  line_.clear();
  if (!drawn_) return;
  std::fprintf(out_, "\x1b[1A\r\x1b[K");
  std::fflush(out_);
  drawn_ = false;
}

}  // namespace sagelab::batch
