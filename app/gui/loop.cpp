// SPDX-License-Identifier: Apache-2.0
#include "app/gui/loop.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "ui/desktop.h"
#include "ui/texture.h"

namespace sagelab::gui {
namespace {

// Over which ImGui settles what an event began, or what a worker changed.
constexpr int kFramesAfterEvent = 3, kFramesAfterWake = 1;

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

class Loop {
 public:
  Loop(ui::Window& window, Program& program, const LoopHooks& hooks)
      : window_(window), program_(program), hooks_(hooks) {
    const auto& look = program_.look();
    window_.set_look(look.dark, look.scale);
    desktop_.set_look(look.dark, look.scale);
  }

  LoopTimes run() {
    while (!program_.finished()) {
      wait();
      frame();
    }
    times_.longest_lock_wait = program_.longest_lock_wait();
    return times_;
  }

 private:
  void wait() {
    if (hooks_.always_draws() || settling_ > 0) {
      --settling_;
      window_.wait(0);
      return;
    }
    double after = desktop_.redraw_after(program_.state());
    if (after >= 0) after = std::max(after - since(frame_began_), 0.);
    const auto start = Clock::now();
    window_.wait(after);
    if (after >= 0 && since(start) >= after) return;
    // Before its time: something happened.
    settling_ = window_.take_woken() && !window_.input_waits() ? kFramesAfterWake : kFramesAfterEvent;
  }

  void frame() {
    FrameTimer timer;
    program_.update();
    take_events();
    const auto& look = program_.look();
    if (window_.display_scale_changed()) window_.set_look(look.dark, look.scale);
    timer.end(Part::Update);
    frame_began_ = Clock::now();
    window_.begin();  // takes the events
    if (window_.input_waits()) settling_ = std::max(settling_, 1);
    timer.end(Part::Begin);
    desktop_.draw(program_.state(), actions_, textures_);
    timer.end(Part::Draw);
    window_.finish();
    timer.end(Part::Finish);
    textures_.upload();
    window_.show(hooks_.before_swap);
    textures_.age();
    timer.end(Part::Show);
    execute();
    timer.end(Part::Execute);
    if (times_.frames.frames() == 0) times_.first_shown = process_age();
    times_.frames.add(timer.time());
    if (hooks_.after_frame) hooks_.after_frame(timer.time());
  }

  void take_events() {
    if (window_.asked_to_close()) actions_.push(ui::action::Close{});
    const auto dropped = window_.take_dropped();
    if (!dropped.empty()) desktop_.take_files(dropped, actions_);
  }

  void execute() {
    const auto actions = actions_.take();
    if (actions.empty()) return;
    settling_ = kFramesAfterEvent;
    const Look before = program_.look();
    program_.execute(actions);
    const auto& now = program_.look();
    if (now.dark != before.dark || now.scale != before.scale) window_.set_look(now.dark, now.scale);
    if (now.scale != before.scale) desktop_.rescale();
  }

  ui::Window& window_;
  Program& program_;
  const LoopHooks& hooks_;
  ui::Actions actions_;
  ui::Desktop desktop_;
  ui::TextureCache textures_;
  LoopTimes times_;
  Clock::time_point frame_began_ = Clock::now();
  int settling_ = kFramesAfterEvent;
};

}  // namespace

std::string LoopTimes::text() const {
  return fmt::format("{}; longest lock wait {:.3f} ms; first shown after {:.2f} s", frames.text(),
                     longest_lock_wait * 1e3, first_shown);
}

LoopTimes run(ui::Window& window, Program& program, const LoopHooks& hooks) {
  return Loop(window, program, hooks).run();
}

}  // namespace sagelab::gui
