// SPDX-License-Identifier: Apache-2.0
// Jobs in order, with progress, previews and what can be done with each.
#pragma once

#include "ui/actions.h"
#include "ui/compare/canvas.h"
#include "ui/platform/file_dialog.h"

namespace sagelab::ui {

struct QueueView {
  const State& state;
  Actions& actions;
  FileDialog& files;
  Textures& textures;
  const Canvas& canvas;  // whose frame is saved as a picture
};

void draw_queue(const QueueView& view);
// Where exports of a result go by default: "sage2-7.mp4".
std::string export_name(const Result& result, const std::string& ending);

}  // namespace sagelab::ui
