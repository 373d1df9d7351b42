// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <thread>

#include "tests/ui/driver/driver.h"

namespace sagelab::gui {

Driver& driver_of(ImGuiTestContext* context) {
  return *static_cast<Driver*>(context->Test->UserData);
}

bool until(ImGuiTestContext* context, const std::function<bool()>& holds, double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  while (!holds()) {
    if (Clock::now() > end || context->IsError()) return false;
    // The worker needs the processor more than the picture of waiting.
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    context->Yield();
  }
  return true;
}

void take_shot(ImGuiTestContext* context, const std::string& name) {
  auto& driver = driver_of(context);
  context->MouseMoveToPos({5, 5});
  context->Yield(2);
  driver.shot = name;
  context->Yield(2);
}

}  // namespace sagelab::gui
