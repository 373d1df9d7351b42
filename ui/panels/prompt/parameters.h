// SPDX-License-Identifier: Apache-2.0
// The controls of a request: sizes, steps, guidance, seed, and a control for each row of the model's own
// option table.
#pragma once

#include "ui/state.h"

namespace sagelab::ui {

// Each draws a block and returns whether it changed the request.
bool draw_size(const ModelChoice& model, Request& request);
bool draw_sampling(const ModelChoice& model, Request& request);
bool draw_seed(Request& request);
bool draw_options(const ModelChoice& model, Request& request);
bool draw_machine(const ModelChoice& model, Request& request);  // device, dtype, tiling, previews ...

struct Size {
  int width = 0, height = 0;
};
// Of the model's own area, as near to the shape as its grain allows.
Size size_of_aspect(const ModelChoice& model, double aspect);

}  // namespace sagelab::ui
