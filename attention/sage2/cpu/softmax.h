// SPDX-License-Identifier: Apache-2.0
// The inner loops of the twin: what a kernel does to a tile of scores between its two matrix products.
#pragma once

#include "attention/sage2/settings.h"

namespace sagelab::attention::sage2 {

// Scores of a tile of queries and a tile of keys: integers come in, rounded probabilities go out.
struct ScoreTile {
  float* scores = nullptr;  // [rows, keys]
  int rows = 0, keys = 0;
  const float* q_scale = nullptr;  // [rows], times scale * log2(e)
  const float* k_scale = nullptr;  // [keys]
  const float* delta = nullptr;    // [keys], in log2 units, added to every row; null: nothing
  const int* seen = nullptr;       // [rows]: a row sees the first so many keys
  float offset = 0;                // log2 of a probability whose score is the running maximum
  float slack = 0;                 // in log2 units: what exceeds the maximum by no more leaves it where it is
  Pv pv = Pv::Fp8;
  Sum sum = Sum::Fp32;
  float* most = nullptr;     // [rows]: running maximum in log2 units, less at most the slack
  float* sums = nullptr;     // [rows]: running sum of the probabilities
  float* rescale = nullptr;  // [rows], out: what the results so far are to be multiplied by
};
void softmax(const ScoreTile& tile);

// result [rows, dim] = result * rescale [rows] + product [rows, dim] * v_scale [dim]; null: 1.
struct Accumulation {
  float* result = nullptr;
  const float* product = nullptr;
  const float* rescale = nullptr;
  const float* v_scale = nullptr;
  int rows = 0, dim = 0;
};
void accumulate(const Accumulation& a);

// sum = fp16(sum + product), as an FP16 accumulator does.
void accumulate_half(float* sum, const float* product, int count);

// For tests: 2^x, and x rounded to the values of a type, half to even; e4m3 of 0 <= x, at most 448.
void exp2_all(float* x, int count);
void round_e4m3_all(float* x, int count);
void round_half_all(float* x, int count);

}  // namespace sagelab::attention::sage2
