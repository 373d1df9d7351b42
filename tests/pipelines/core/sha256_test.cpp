// SPDX-License-Identifier: Apache-2.0
#include "pipelines/core/files/sha256.h"

#include <gtest/gtest.h>

namespace sagelab {
namespace {

std::string sha256(std::string_view text) {
  Sha256 sum;
  sum.add(text);
  return sum.hex();
}

// The examples of NIST for FIPS 180-4.
TEST(Sha256, OfTheStandardsExamples) {
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256(std::string(1'000'000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, PiecesAreAsTheWhole) {
  for (size_t length = 0; length < 200; ++length) {
    const std::string text(length, 'x');
    for (const size_t piece : {size_t(1), size_t(7), size_t(63), size_t(64), size_t(65)}) {
      Sha256 sum;
      for (size_t at = 0; at < length; at += piece) sum.add(std::string_view(text).substr(at, piece));
      ASSERT_EQ(sum.hex(), sha256(text)) << length << " in pieces of " << piece;
    }
  }
}

}  // namespace
}  // namespace sagelab
