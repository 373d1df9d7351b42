// SPDX-License-Identifier: Apache-2.0
// Errors and questions, one at a time.
#pragma once

#include "ui/actions.h"

namespace sagelab::ui {

// Shows the first of State::dialogs until it is answered.
void draw_dialogs(const State& state, Actions& actions);

}  // namespace sagelab::ui
