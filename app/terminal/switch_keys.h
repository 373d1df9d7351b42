// SPDX-License-Identifier: Apache-2.0
// Attention backends as numbered keys, for as long as a run denoises.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "app/session.h"
#include "app/terminal/keys.h"

namespace sagelab {

// What a key may ask for: what the run names itself, then what people compare, as far as the run's device and
// shapes allow. At most nine.
std::vector<std::string> switch_choices(const Request& resolved, const Plan& plan);
// "keys: 1 sdpa (runs)  2 sage2"
std::string legend_of(const std::vector<std::string>& choices, const std::string& running);

class SwitchKeys {
 public:
  using Say = std::function<void(const std::string&)>;  // a line for the user
  SwitchKeys(std::vector<std::string> choices, const Request& resolved, Say say);
  // What was pressed since the last call goes to Session::set_attention, and what it refuses to the user.
  void serve(Session& session);
  void show(const Progress& progress);  // keeps the legend true

 private:
  std::vector<std::string> choices_;
  std::string running_;  // what served the latest step
  bool per_call_;
  Say say_;
  std::optional<Keys> keys_;
};

}  // namespace sagelab
