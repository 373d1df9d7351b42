// SPDX-License-Identifier: Apache-2.0
// Ctrl-C: the first asks, the second kills.
#pragma once

namespace sagelab {

void catch_interrupt();
bool interrupted();

}  // namespace sagelab
