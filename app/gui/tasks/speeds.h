// SPDX-License-Identifier: Apache-2.0
// How long a run will take: from runs that were made here, else from the machine's speed.
#pragma once

#include <cmath>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "app/gui/tasks/machine_speed.h"

namespace sagelab::gui {

class Speeds {
 public:
  // What a run depends on, and what it took: denoising, and all before and after it.
  struct Run {
    std::string model, device, dtype, attention;
    bool emulated = false;           // attention is not what the device is fast at
    double flops = 0, pixels = 0;    // of the denoising; of all frames
    double denoise = 0, beside = 0;  // seconds
    Target target;                   // device and dtype
    int64_t width = 0;               // of its transformer
  };
  void add(const Run& run);  // one that one backend served throughout
  struct Guess {
    double seconds = NAN;  // NaN: nothing tells
    double denoise = NAN;  // of those
    bool rough = true;     // not from runs of this model with this attention
  };
  // run.denoise and run.beside are what is guessed. It may measure the machine, for some ten milliseconds.
  Guess guess(const Run& run) const;
  nlohmann::json json() const;
  void read(const nlohmann::json& json);

 private:
  struct Known {
    double per_flop = 0, beside = 0, pixels = 0;
  };
  std::map<std::string, Known> known_;
  std::shared_ptr<MachineSpeed> machine_ = std::make_shared<MachineSpeed>();
};

}  // namespace sagelab::gui
