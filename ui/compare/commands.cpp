// SPDX-License-Identifier: Apache-2.0
// What each key of the canvas does.
#include <algorithm>
#include <cmath>

#include "ui/compare/canvas.h"
#include "ui/compare/maths/strip.h"
#include "ui/compare/transport.h"

namespace sagelab::ui {

void Canvas::apply(Command command, const State& state, Actions& actions) {
  if (command == Command::Swap) {
    auto ids = state.compared;
    std::swap(ids[0], ids[1]);
    actions.push(action::Compare{ids});
    return;
  }
  if (!apply_time(command, state) && !apply_mode(command) && !apply_zoom(command)) apply_look(command);
}

bool Canvas::apply_time(Command command, const State& state) {
  switch (command) {
    case Command::Play:
      clock_.play(!clock_.playing());
      return true;
    case Command::StepBack:
      clock_.step(-1);
      return true;
    case Command::Step:
      clock_.step(1);
      return true;
    case Command::SecondBack:
      clock_.seek(clock_.time() - 1);
      return true;
    case Command::Second:
      clock_.seek(clock_.time() + 1);
      return true;
    case Command::First:
      clock_.seek_frame(0);
      return true;
    case Command::Last:
      clock_.seek_frame(clock_.frames() - 1);
      return true;
    case Command::Slower:
      clock_.faster(-1);
      return true;
    case Command::Faster:
      clock_.faster(1);
      return true;
    case Command::Loop:
      clock_.loop(!clock_.loops());
      return true;
    case Command::Worst:
      if (const auto rows = strip_rows(state, clips_); !rows.empty()) {
        const int worst = worst_frame(rows.front().quality->psnr);
        clock_.play(false);
        if (worst >= 0) clock_.seek_frame(worst);
      }
      return true;
    default:
      return false;
  }
}

bool Canvas::apply_mode(Command command) {
  switch (command) {
    case Command::ShowA:
      pick(0);
      return true;
    case Command::ShowB:
      pick(1);
      return true;
    case Command::ShowC:
      pick(2);
      return true;
    case Command::Split:
      arrangement_.mode = Mode::Split;
      return true;
    case Command::SideBySide:
      arrangement_.mode = Mode::SideBySide;
      return true;
    case Command::Flicker:
      arrangement_.mode = Mode::Flicker;
      return true;
    case Command::Difference:
      toggle_difference();
      return true;
    default:
      return false;
  }
}

bool Canvas::apply_zoom(Command command) {
  switch (command) {
    case Command::Fit:
      view_.fit();
      return true;
    case Command::ActualSize:
      view_.actual_size();
      return true;
    case Command::Half:
      zoom_to(.5);
      return true;
    case Command::Twice:
      zoom_to(2);
      return true;
    case Command::FourTimes:
      zoom_to(4);
      return true;
    case Command::EightTimes:
      zoom_to(8);
      return true;
    case Command::ZoomIn:
      view_.zoom(kNotch, zoom_anchor(), zoom_pane());
      return true;
    case Command::ZoomOut:
      view_.zoom(1 / kNotch, zoom_anchor(), zoom_pane());
      return true;
    default:
      return false;
  }
}

void Canvas::apply_look(Command command) {
  switch (command) {
    case Command::MoreGain:
      look_.gain = std::min(look_.gain * 2, kMostGain);
      break;
    case Command::LessGain:
      look_.gain = std::max(look_.gain / 2, kLeastGain);
      break;
    case Command::DifferenceKind:
      look_.kind = look_.kind == DifferenceKind::Signed ? DifferenceKind::Absolute : DifferenceKind::Signed;
      break;
    case Command::Labels:
      labels_ = !labels_;
      break;
    case Command::Help:
      help_ = !help_;
      break;
    case Command::Reset:
      view_.fit();
      arrangement_.lines = Arrangement().lines;
      look_ = {};
      clock_.faster(-int(std::lround(std::log2(clock_.speed()))));
      break;
    default:
      break;
  }
}

// Times what fits; what is in the middle stays there.
void Canvas::zoom_to(double times) {
  const Box& pane = zoom_pane();
  view_.zoom(times * fitting_scale(view_.picture(), pane) / view_.scale(), pane.middle(), pane);
}

// The same key again goes back, here and in pick.
void Canvas::toggle_difference() {
  auto& mode = arrangement_.mode;
  if (mode == Mode::Difference) {
    mode = without_;
    return;
  }
  without_ = mode == Mode::Single ? before_ : mode;
  mode = Mode::Difference;
}

void Canvas::pick(int place) {
  const auto at = std::find_if(clips_.begin(), clips_.end(),
                               [&](const Clip& clip) { return clip.letter == 'A' + place; });
  if (at == clips_.end()) return;
  const int index = int(at - clips_.begin());
  if (arrangement_.mode == Mode::Single && arrangement_.picked == index) {
    arrangement_.mode = before_;
    return;
  }
  if (arrangement_.mode != Mode::Single) before_ = arrangement_.mode;
  arrangement_.mode = Mode::Single;
  arrangement_.picked = index;
}

}  // namespace sagelab::ui
