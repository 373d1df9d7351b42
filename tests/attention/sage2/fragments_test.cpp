// SPDX-License-Identifier: Apache-2.0
// The index arithmetic of the mma.sync kernels, held to a warp emulated on the CPU: ldmatrix and mma.sync as
// the PTX ISA describes them, on tiles laid out as the prologue lays them.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <random>
#include <set>
#include <vector>

#include "attention/sage2/mma/fragments.h"

namespace sagelab::attention::sage2::mma {
namespace {

using Bytes = std::vector<uint8_t>;
// One 32-bit register of each lane, as four bytes.
using Register = std::array<std::array<uint8_t, 4>, 32>;

// ldmatrix.x4: lanes 8i .. 8i + 7 point at the rows of matrix i; of row r, lane 4r + c gets bytes 4c .. 4c
// + 3.
template <class Address>
std::array<Register, 4> load_matrices(const Bytes& memory, Address address) {
  std::array<Register, 4> to;
  for (int matrix = 0; matrix < 4; ++matrix) {
    for (int lane = 0; lane < 32; ++lane) {
      const int from = address(matrix * 8 + lane / 4) + lane % 4 * 4;
      for (int byte = 0; byte < 4; ++byte) to[matrix][lane][byte] = memory.at(from + byte);
    }
  }
  return to;
}

// PTX ISA, fragments of mma.m16n8k32 with 8-bit operands (k16 with 16-bit and k64 with 4-bit ones lie alike,
// by bytes): where byte `byte` of register `reg` of a lane lies in A [16 rows x 32 bytes] and B [8 x 32].
struct At {
  int row, byte;
};
At a_element(int lane, int reg, int byte) {
  return {lane / 4 + (reg == 1 || reg == 3 ? 8 : 0), lane % 4 * 4 + byte + (reg >= 2 ? 16 : 0)};
}
At b_element(int lane, int reg, int byte) {
  return {lane / 4, lane % 4 * 4 + byte + reg * 16};
}

Bytes random_rows(int rows, int row_bytes, unsigned seed) {
  std::mt19937 random(seed);
  Bytes rows_of(size_t(rows) * row_bytes);
  for (uint8_t& x : rows_of) x = uint8_t(random());
  return rows_of;
}

// A tile as layout.h has it.
Bytes tile_of(const Bytes& rows, int row_bytes) {
  Bytes tile(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    tile[swizzled(int(i) / row_bytes, int(i) % row_bytes, row_bytes)] = rows[i];
  }
  return tile;
}

class FragmentsTest : public testing::TestWithParam<int> {};

TEST_P(FragmentsTest, LoadsTheOperandAThatTheInstructionWants) {
  const int row_bytes = GetParam();
  const Bytes rows = random_rows(kQRows, row_bytes, 1), tile = tile_of(rows, row_bytes);
  for (int first = 0; first < kQRows; first += 16) {
    for (int step = 0; step < row_bytes / kStepBytes; ++step) {
      const auto a = load_matrices(
          tile, [&](int lane) { return first * row_bytes + step_offset(a_offset(lane, row_bytes), step); });
      for (int i = 0; i < 4 * 32 * 4; ++i) {
        const int reg = i / 128, lane = i / 4 % 32, byte = i % 4;
        const At at = a_element(lane, reg, byte);
        ASSERT_EQ(a[reg][lane][byte], rows[(first + at.row) * row_bytes + step * kStepBytes + at.byte]);
      }
    }
  }
}

TEST_P(FragmentsTest, LoadsTheOperandBOfTwoTiles) {
  const int row_bytes = GetParam();
  const Bytes rows = random_rows(128, row_bytes, 2), tile = tile_of(rows, row_bytes);
  for (int first = 0; first < 128; first += 16) {
    for (int step = 0; step < row_bytes / kStepBytes; ++step) {
      const auto b = load_matrices(
          tile, [&](int lane) { return first * row_bytes + step_offset(b_offset(lane, row_bytes), step); });
      for (int i = 0; i < 4 * 32 * 4; ++i) {
        const int reg = i / 128, lane = i / 4 % 32, byte = i % 4;
        const At at = b_element(lane, reg % 2, byte);
        const int row = first + reg / 2 * 8 + at.row;
        ASSERT_EQ(b[reg][lane][byte], rows[row * row_bytes + step * kStepBytes + at.byte]);
      }
    }
  }
}

TEST(Fragments, LoadsTheOperandBOfTwoSteps) {
  constexpr int kRowBytes = 64;
  const Bytes rows = random_rows(128, kRowBytes, 3), tile = tile_of(rows, kRowBytes);
  for (int first = 0; first < 128; first += 8) {
    const auto b =
        load_matrices(tile, [&](int lane) { return first * kRowBytes + row_offset(lane, kRowBytes); });
    for (int i = 0; i < 4 * 32 * 4; ++i) {
      const int reg = i / 128, lane = i / 4 % 32, byte = i % 4;
      const At at = b_element(lane, reg % 2, byte);
      ASSERT_EQ(b[reg][lane][byte], rows[(first + at.row) * kRowBytes + reg / 2 * kStepBytes + at.byte]);
    }
  }
}

// Eight lanes that ldmatrix serves at once touch every one of the 32 banks.
TEST_P(FragmentsTest, LoadsWithoutBankConflicts) {
  const int row_bytes = GetParam();
  for (const auto& offset : {a_offset, b_offset}) {
    for (int step = 0; step < row_bytes / kStepBytes; ++step) {
      for (int matrix = 0; matrix < 4; ++matrix) {
        std::set<int> banks;
        for (int lane = 0; lane < 8; ++lane) {
          banks.insert(step_offset(offset(matrix * 8 + lane, row_bytes), step) % 128 / 16);
        }
        EXPECT_EQ(banks.size(), 8u);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(RowBytes, FragmentsTest, testing::Values(32, 64, 128));

TEST(Fragments, AllScoresOfAThreadShareTheirScales) {
  for (int row = 0; row < kQRows; row += 16) {
    for (int i = 0; i < 32 * 4; ++i) {
      const int lane = i / 4, element = i % 4;
      const int at = row + accumulator_row(lane, element);
      EXPECT_EQ(q_scale_index(at, q_group(Arch::Sm80)), row / kWarpRows * 8 + lane / 4);
      for (int tile = 0; tile < kKeyTiles; ++tile) {
        EXPECT_EQ(k_scale_index(tile * 8 + accumulator_column(lane, element)), lane % 4);
      }
    }
  }
}

// Which key the accumulator is of that ends up in byte `byte` of a register of A of P V.
int fp8_key_of(int lane, int step, int reg, int byte) {
  const Pair from = fp8_source(step, reg);
  return (from.tile + byte / 2) * 8 + accumulator_column(lane, from.element + byte % 2);
}
int half_key_of(int lane, int step, int reg, int byte) {
  const Pair from = half_source(step, reg);
  return from.tile * 8 + accumulator_column(lane, from.element + byte / 2);
}

TEST(Fragments, ProbabilitiesMeetTheValuesOfTheirKeys) {
  for (int i = 0; i < 32 * 4 * 4; ++i) {
    const int lane = i / 16, reg = i / 4 % 4, byte = i % 4;
    const At at = a_element(lane, reg, byte);
    for (int step = 0; step < kKeys / kStepBytes; ++step) {
      EXPECT_EQ(fp8_key_of(lane, step, reg, byte), fp8_key(step * kStepBytes + at.byte));
      EXPECT_EQ(accumulator_row(lane, fp8_source(step, reg).element), at.row);
    }
    for (int step = 0; step < kKeys * 2 / kStepBytes; ++step) {
      EXPECT_EQ(half_key_of(lane, step, reg, byte), (step * kStepBytes + at.byte) / 2);
      EXPECT_EQ(accumulator_row(lane, half_source(step, reg).element), at.row);
    }
  }
}

TEST(Fragments, StagedRowsAreAPermutationFreeOfBankConflicts) {
  for (const int dim : {64, 128}) {
    std::set<int> offsets;
    for (int i = 0; i < 16 * dim; ++i) offsets.insert(staged(i / dim, i % dim, dim));
    EXPECT_EQ(int(offsets.size()), 16 * dim);
    EXPECT_EQ(*offsets.rbegin(), 16 * dim * 2 - 2);
    for (int row = 0; row < 16; ++row) {
      for (int column = 0; column < dim; column += 8) EXPECT_EQ(staged(row, column, dim) % 16, 0);
    }
    for (int tile = 0; tile < dim / 8; ++tile) {
      for (int element = 0; element < 4; element += 2) {
        std::set<int> banks;
        for (int lane = 0; lane < 32; ++lane) {
          const int column = tile * 8 + accumulator_column(lane, element);
          banks.insert(staged(accumulator_row(lane, element), column, dim) % 128 / 4);
        }
        EXPECT_EQ(banks.size(), 32u);
      }
    }
  }
}

// Against every pair of a query and a key.
void expect_range(const Lengths& n, int first, int rows) {
  const auto sees = [&](int query, int key) {
    return query < n.q && key < n.kv && (!n.causal || key <= query + n.kv - n.q);
  };
  int tiles = 0, full = 0;
  bool all = true;
  for (int tile = 0; tile * kKeys < n.kv + kKeys; ++tile) {
    bool any = false;
    for (int i = 0; i < rows * kKeys; ++i) {
      const int query = first + i / kKeys, key = tile * kKeys + i % kKeys;
      any = any || sees(query, key);
      all = all && (query >= n.q || sees(query, key));
    }
    tiles = any ? tile + 1 : tiles;
    full = all && first < n.q ? tile + 1 : full;
  }
  const Range range = range_of(n, first, rows);
  EXPECT_EQ(range.tiles, tiles) << n.q << " x " << n.kv << (n.causal ? " causal" : "") << ", rows from "
                                << first;
  EXPECT_EQ(range.full, full) << n.q << " x " << n.kv << (n.causal ? " causal" : "") << ", rows from "
                              << first;
  for (int query = first; query < std::min(first + rows, n.q); ++query) {
    for (int key = 0; key < n.kv; ++key) ASSERT_EQ(key < visible_keys(n, query), sees(query, key));
  }
}

TEST(Fragments, LooksAtEveryTileThatARowSeesAndMasksThoseItSeesInPart) {
  for (const int q : {1, 31, 62, 125, 128, 129, 287}) {
    for (const int kv : {0, 1, 63, 64, 65, 128, 200, 287, 300}) {
      for (const bool causal : {false, true}) {
        for (int first = 0; first < (q + kQRows - 1) / kQRows * kQRows; first += kWarpRows) {
          expect_range({q, kv, causal}, first, kWarpRows);
          if (first % kQRows == 0) expect_range({q, kv, causal}, first, kQRows);
        }
      }
    }
  }
}

}  // namespace
}  // namespace sagelab::attention::sage2::mma
