// SPDX-License-Identifier: Apache-2.0
// SHA-256 (FIPS 180-4), for telling whether two things are the same bytes. Plain C++.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace sagelab {

class Sha256 {
 public:
  void add(std::span<const uint8_t> bytes);
  void add(std::string_view bytes);
  // Of all that was added, as 64 hexadecimal digits; nothing may be added afterwards.
  std::string hex();

 private:
  void block(const uint8_t* bytes);  // of 64

  std::array<uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<uint8_t, 64> pending_{};
  uint64_t length_ = 0;  // bytes so far
};

}  // namespace sagelab
