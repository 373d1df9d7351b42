// SPDX-License-Identifier: Apache-2.0
// Which thread of a warp holds which element, and which tiles of keys a warp has to look at: integer
// arithmetic alone, so that a test on the CPU can hold it to the PTX ISA's own description.
//
// Every operand type has 32 bytes of a row in one step of mma.sync (32 int8 or e4m3, 64 int4, 16 fp16), and
// the bytes of a fragment lie alike in all of them.
#pragma once

#include "attention/sage2/layout.h"

namespace sagelab::attention::sage2::mma {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * 32;
constexpr int kWarpRows = kQRows / kWarps;  // queries of a warp: two tiles of 16
constexpr int kKeys = kv_rows(Arch::Sm80);
constexpr int kKeyTiles = kKeys / 8;  // accumulator tiles of 8 columns
constexpr int kStepBytes = 32;

static_assert(kv_rows(Arch::Sm89) == kKeys && q_group(Arch::Sm80) == kWarpRows &&
              q_group(Arch::Sm89) == kWarpRows);

// Element 0..3 of an accumulator tile of 16 x 8.
SAGELAB_HOST_DEVICE constexpr int accumulator_row(int lane, int element) {
  return lane / 4 + element / 2 * 8;
}
SAGELAB_HOST_DEVICE constexpr int accumulator_column(int lane, int element) {
  return lane % 4 * 2 + element % 2;
}

// Where in a tile a lane points ldmatrix.x4 at: for the four registers of A (16 rows), or for those of B of
// two accumulator tiles (16 rows: registers 0 and 1 the first, 2 and 3 the second). Rows further down by a
// multiple of 16 are that many rows of bytes further on, since the swizzle repeats within 8.
SAGELAB_HOST_DEVICE constexpr int a_offset(int lane, int row_bytes) {
  return swizzled(lane % 16, lane / 16 * 16, row_bytes);
}
SAGELAB_HOST_DEVICE constexpr int b_offset(int lane, int row_bytes) {
  return swizzled(lane / 16 * 8 + lane % 8, lane / 8 % 2 * 16, row_bytes);
}
// For the four registers of B of one accumulator tile, two steps along the row.
SAGELAB_HOST_DEVICE constexpr int row_offset(int lane, int row_bytes) {
  return swizzled(lane % 8, lane / 8 * 16, row_bytes);
}
// The same for a later step along the row: the swizzle is an exclusive or, so this is one too.
SAGELAB_HOST_DEVICE constexpr int step_offset(int offset, int step) {
  return offset ^ step * kStepBytes;
}

// Two neighbouring accumulators of Q K^T: elements `element` and `element + 1` of a tile of 8 keys.
struct Pair {
  int tile, element;
};
// What a register of A of P V is made of: in fp16 one pair, in e4m3 two, of which this is the lower; the
// upper one lies in the next tile. (The keys of V are permuted to that end: fp8_key.)
SAGELAB_HOST_DEVICE constexpr Pair half_source(int step, int reg) {
  return {step * 2 + reg / 2, reg % 2 * 2};
}
SAGELAB_HOST_DEVICE constexpr Pair fp8_source(int step, int reg) {
  return {step * 4 + reg / 2 * 2, reg % 2 * 2};
}

// Where a 16-bit element of the result waits in shared memory: 16 rows of `dim`, free of bank conflicts both
// for threads that hold accumulators and for those that read rows.
SAGELAB_HOST_DEVICE constexpr int staged(int row, int column, int dim) {
  return row * dim * 2 + (column / 8 ^ row % 8) * 16 + column % 8 * 2;
}

struct Lengths {
  int q, kv;
  bool causal;
};

// Keys that a query sees: the first so many. Negative where a causal query comes before the first.
SAGELAB_HOST_DEVICE constexpr int visible_keys(const Lengths& n, int query) {
  const int last = query - n.q + n.kv + 1;
  return n.causal && last < n.kv ? last : n.kv;
}

// Of a run of queries: tiles that any of them sees, and how many of these all see wholly.
struct Range {
  int tiles, full;
};
SAGELAB_HOST_DEVICE constexpr Range range_of(const Lengths& n, int first, int rows) {
  const int last = (first + rows < n.q ? first + rows : n.q) - 1;
  if (last < first) return {0, 0};
  const int most = visible_keys(n, last), least = visible_keys(n, first);
  return {most > 0 ? (most + kKeys - 1) / kKeys : 0, least > 0 ? least / kKeys : 0};
}

}  // namespace sagelab::attention::sage2::mma
