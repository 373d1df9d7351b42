// SPDX-License-Identifier: Apache-2.0
#include "attention/study/study.h"

namespace sagelab::attention::study {

// The paper's figures are of a video model with its own weights, which the synthetic sets do not reproduce:
// they stand beside ours for their order, not their size.
const std::vector<Table>& tables() {
  static const std::vector<Table> all = {
      {"smoothing",
       "q and k before rounding to INT4, PV in E4M3 (tables 4 and 17)",
       {{"none", {.smooth = Smooth::None}, {.8004, .3906, .2223}, .0483},
        {"Hadamard", {.smooth = Smooth::Hadamard}, {.7977, .3782, .2180}, .0485},
        {"K", {.smooth = Smooth::K}, {.9807, .1493, .0743}, .9086},
        {"Q", {.smooth = Smooth::Q}, {.9830, .1250, .0712}, .9310},
        {"Q and K", {.smooth = Smooth::Both}, {.9946, .0648, .0334}, .9671}}},
      {"smoothing8",
       "the same with INT8",
       {{"none", {.smooth = Smooth::None, .bits = 8}, {}, 0},
        {"Hadamard", {.smooth = Smooth::Hadamard, .bits = 8}, {}, 0},
        {"K", {.smooth = Smooth::K, .bits = 8}, {}, 0},
        {"Q", {.smooth = Smooth::Q, .bits = 8}, {}, 0},
        {"Q and K", {.smooth = Smooth::Both, .bits = 8}, {}, 0}}},
      {"granularity",
       "what shares a scale, INT4 q and k, both smoothed (tables 6 and 15)",
       {{"token", {.group = Group::Token}, {.9945, .0649, .0335}, .9676},
        {"thread", {.group = Group::Thread}, {.9945, .0622, .0313}, .9672},
        {"block", {.group = Group::Block}, {.9803, .1492, .0744}, .9068},
        {"tensor", {.group = Group::Tensor}, {.9715, .1800, .0865}, .8585}}},
      {"pv",
       "probabilities and v, INT4 q and k, both smoothed (tables 7 and 16)",
       {{"INT8", {.pv = Pv::Int8}, {.7705, .5618, .5044}, .1952},
        {"E5M2", {.pv = Pv::E5m2}, {.9920, .0905, .0903}, .9494},
        {"E4M3", {.pv = Pv::E4m3}, {.9944, .0683, .0347}, .9670},
        {"FP16", {.pv = Pv::Fp16}, {.9945, .0649, .0335}, .9676}}},
  };
  return all;
}

}  // namespace sagelab::attention::study
