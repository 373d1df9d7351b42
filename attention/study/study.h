// SPDX-License-Identifier: Apache-2.0
// What each choice of SageAttention2 costs in accuracy (arXiv 2411.10958, tables 4, 6, 7 and 15 to 17):
// attention in fp32 with the operands rounded as the choice says, beside the same in fp64. Apart from the
// kernels, so that choices that no kernel has can be studied too. Differences to a kernel: the maximum of a
// row is the final one, not the running one, and has no slack.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "attention/recorder.h"
#include "attention/study/sets.h"

namespace sagelab::attention::study {

// What is done to q and k before they are rounded. K: its mean over all tokens is subtracted. Q: that of each
// tile of 128 queries, whose product with k is added back. Hadamard: both are turned by an orthogonal matrix
// of equal entries, in blocks of the largest power of two that divides the head dimension.
enum class Smooth { None, K, Q, Both, Hadamard };
// Which values share a scale. Thread: as in the kernels for mma.sync, 8 of 32 queries by row modulo 8, 4 of
// 64 keys.
enum class Group { Token, Thread, Block, Tensor };
// The numbers that probabilities and v become; v has a scale for each channel.
enum class Pv { Int8, E5m2, E4m3, Fp16 };

struct Choice {
  Smooth smooth = Smooth::Both;
  Group group = Group::Thread;
  Pv pv = Pv::E4m3;
  int bits = 4;  // of q and k: 4 or 8
};

// The queries that are compared: whole tiles of 128, spread evenly.
struct Truth {
  std::vector<int64_t> tiles;
  at::Tensor out;  // fp64 [H, tiles * 128, D]
};
Truth truth_of(const Layer& layer, int64_t tiles);

// Cosine, relative L1 and RMSE over all compared queries.
Errors errors_of(const Layer& layer, const Choice& choice, const Truth& truth);

// A table of the paper: choices side by side, with the figures it gives for them.
struct Figures {
  double cosine = 0, relative_l1 = 0, rmse = 0;
};
struct Entry {
  std::string name;
  Choice choice;
  Figures paper_mean;  // over layers; zeros where the paper has none
  double paper_worst_cosine = 0;
};
struct Table {
  std::string name, title;
  std::vector<Entry> entries;
};
const std::vector<Table>& tables();

}  // namespace sagelab::attention::study
