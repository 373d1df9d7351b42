// SPDX-License-Identifier: Apache-2.0
// Files that break one rule of the format each. Every one is refused with its own words.
#include <gtest/gtest.h>

#include <random>

#include "pipelines/core/safetensors.h"
#include "tests/pipelines/core/files.h"

namespace sagelab::testing {
namespace {

const std::string kDamaged = " | the file is damaged or not a safetensors file; download it again";
const std::string kIncomplete = " | the file is incomplete; download or copy it again";
const std::string kDtypes =
    " | known are F64, F32, F16, BF16, F8_E4M3, F8_E5M2, I64, I32, I16, I8, U8 and BOOL";

struct Hostile {
  const char* name;
  std::string bytes;
  std::string says;  // behind "<file>: "
};

void PrintTo(const Hostile& hostile, std::ostream* out) {
  *out << hostile.name;
}

std::string zeros(size_t n) {
  return std::string(n, '\0');
}

// One tensor "w" with the given fields and n bytes of data.
std::string one(const std::string& fields, size_t n = 8) {
  return safetensors("{\"w\":{" + fields + "}}", zeros(n));
}

std::string two(const std::string& a, const std::string& b, size_t n) {
  const auto entry = [](const std::string& offsets) {
    return "{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" + offsets + "}";
  };
  return safetensors("{\"a\":" + entry(a) + ",\"b\":" + entry(b) + "}", zeros(n));
}

std::vector<Hostile> of_the_container() {
  return {
      {"empty", "", "has 0 bytes: too short for a safetensors file" + kIncomplete},
      {"seven_bytes", zeros(7), "has 7 bytes: too short for a safetensors file" + kIncomplete},
      {"length_over_limit", little_endian(100'000'001) + "{}",
       "the header is said to have 100000001 bytes; the format allows 100000000" + kDamaged},
      {"length_all_ones", little_endian(~uint64_t(0)) + "{}",
       "the header is said to have 18446744073709551615 bytes; the format allows 100000000" + kDamaged},
      {"length_over_file", little_endian(50) + "{\"w\":",
       "the header has 50 bytes, but the file ends after 5 of them" + kIncomplete},
      {"a_zip", std::string("PK\3\4\24\0\0\10archive/data.pkl", 24),
       "the header is said to have 576460838270094160 bytes; the format allows 100000000" + kDamaged},
      {"lfs_pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
       "is a Git LFS pointer, not the tensors themselves | run `git lfs pull` in the checkpoint's folder"},
      {"no_header", little_endian(0), "the header does not start with {" + kDamaged},
      {"space_first", safetensors(" {}"), "the header does not start with {" + kDamaged},
      {"a_list", safetensors("[]"), "the header does not start with {" + kDamaged},
      {"cut_json", safetensors("{\"w\":{"),
       "the header is not valid JSON: parse error at line 1, column 7: syntax error while parsing object key "
       "- "
       "unexpected end of input; expected string literal" +
           kDamaged},
      {"two_documents", safetensors("{}{}"),
       "the header is not valid JSON: parse error at line 1, column 3: syntax error while parsing value - "
       "unexpected "
       "'{'; expected end of input" +
           kDamaged},
      {"not_utf8", safetensors("{\"w\xff\":{}}"),
       "the header is not valid JSON: parse error at line 1, column 4: syntax error while parsing object key "
       "- "
       "invalid string: ill-formed UTF-8 byte; last read: '\"w\xff'; expected string literal" +
           kDamaged},
      {"deep", safetensors("{\"w\":[[[[[[1]]]]]]}"),
       "the header is nested deeper than the format allows" + kDamaged},
      {"metadata_numbers", safetensors("{\"__metadata__\":{\"a\":1}}"),
       "__metadata__ is not a map from strings to strings" + kDamaged},
      {"metadata_list", safetensors("{\"__metadata__\":[]}"),
       "__metadata__ is not a map from strings to strings" + kDamaged},
  };
}

const std::string kF32 = "\"dtype\":\"F32\",", kShape = "\"shape\":[2],", kAt = "\"data_offsets\":[0,8]";

std::vector<Hostile> of_an_entry() {
  return {
      {"entry_a_list", safetensors("{\"w\":[1]}"),
       "tensor w is described by array, not by an object" + kDamaged},
      {"entry_null", safetensors("{\"w\":null}"),
       "tensor w is described by null, not by an object" + kDamaged},
      {"no_dtype", one(kShape + kAt), "tensor w has no dtype" + kDamaged},
      {"no_shape", one(kF32 + kAt), "tensor w has no shape" + kDamaged},
      {"no_offsets", one("\"dtype\":\"F32\",\"shape\":[2]"), "tensor w has no data_offsets" + kDamaged},
      {"unknown_field", one(kF32 + kShape + kAt + ",\"strides\":[1]"),
       "tensor w has an unknown field strides" + kDamaged},
      {"unknown_dtype", one("\"dtype\":\"F4\"," + kShape + kAt),
       "tensor w has dtype \"F4\", which is not supported" + kDtypes},
      {"dtype_a_number", one("\"dtype\":4," + kShape + kAt),
       "tensor w has dtype 4, which is not supported" + kDtypes},
      {"shape_negative", one(kF32 + "\"shape\":[-2]," + kAt),
       "tensor w has shape [-2]: a list of integers from 0 is expected" + kDamaged},
      {"shape_fraction", one(kF32 + "\"shape\":[2.0]," + kAt),
       "tensor w has shape [2.0]: a list of integers from 0 is expected" + kDamaged},
      {"shape_a_number", one(kF32 + "\"shape\":2," + kAt),
       "tensor w has shape 2: a list of integers from 0 is expected" + kDamaged},
      {"shape_past_int64", one(kF32 + "\"shape\":[9223372036854775808]," + kAt),
       "tensor w has shape [9223372036854775808]: a list of integers from 0 is expected" + kDamaged},
      {"shape_overflows", one(kF32 + "\"shape\":[4294967296,4294967296]," + kAt),
       "tensor w is too large: shape [4294967296,4294967296]" + kDamaged},
      {"shape_wraps_to_fit", one(kF32 + "\"shape\":[4611686018427387906]," + kAt),
       "tensor w is too large: shape [4611686018427387906]" + kDamaged},
  };
}

std::vector<Hostile> of_an_entrys_place() {
  return {
      {"three_offsets", one(kF32 + kShape + "\"data_offsets\":[0,4,8]"),
       "tensor w has data_offsets [0,4,8]: two integers from 0 are expected" + kDamaged},
      {"offset_negative", one(kF32 + kShape + "\"data_offsets\":[-8,0]"),
       "tensor w has data_offsets [-8,0]: two integers from 0 are expected" + kDamaged},
      {"offset_text", one(kF32 + kShape + "\"data_offsets\":[\"0\",8]"),
       "tensor w has data_offsets [\"0\",8]: two integers from 0 are expected" + kDamaged},
      {"offset_past_int64", one(kF32 + kShape + "\"data_offsets\":[0,18446744073709551615]"),
       "tensor w has data_offsets [0,18446744073709551615]: two integers from 0 are expected" + kDamaged},
      {"ends_before_begin", one(kF32 + kShape + "\"data_offsets\":[8,0]"),
       "tensor w ends at 0, before it begins at 8" + kDamaged},
      {"size_too_small", one(kF32 + "\"shape\":[3]," + kAt),
       "tensor w has 8 bytes, but shape [3] of F32 takes 12" + kDamaged},
      {"size_too_large", one("\"dtype\":\"BF16\"," + kShape + kAt),
       "tensor w has 8 bytes, but shape [2] of BF16 takes 4" + kDamaged},
      {"same_key_twice",
       safetensors("{\"w\":{" + kF32 + kShape + kAt + "},\"w\":{" + kF32 + kShape + kAt + "}}", zeros(8)),
       "the header names w twice" + kDamaged},
      {"same_field_twice", one(kF32 + kShape + kAt + ",\"shape\":[2]"),
       "the header names shape twice" + kDamaged},
      {"key_with_newline", safetensors("{\"a\\nb\":1}"),
       "tensor a?b is described by number, not by an object" + kDamaged},
  };
}

std::vector<Hostile> of_the_layout() {
  return {
      {"overlap", two("[0,4]", "[2,6]", 6),
       "tensor b begins at 2, inside the one before it, which ends at 4" + kDamaged},
      {"the_same_bytes", two("[0,4]", "[0,4]", 4),
       "tensor b begins at 0, inside the one before it, which ends at 4" + kDamaged},
      {"gap", two("[0,4]", "[5,9]", 9), "bytes 4 to 5 before tensor b belong to no tensor" + kDamaged},
      {"gap_at_start", two("[1,5]", "[5,9]", 9),
       "bytes 0 to 1 before tensor a belong to no tensor" + kDamaged},
      {"cut_short", two("[0,4]", "[4,8]", 7),
       "tensor b ends at 8, but the file holds 7 bytes of tensors" + kIncomplete},
      {"far_outside",
       one("\"dtype\":\"U8\",\"shape\":[9223372036854775807],\"data_offsets\":[0,9223372036854775807]"),
       "tensor w ends at 9223372036854775807, but the file holds 8 bytes of tensors" + kIncomplete},
      {"rest", two("[0,4]", "[4,8]", 9), "1 bytes after the last tensor belong to no tensor" + kDamaged},
      {"rest_without_tensors", safetensors("{}", "x"),
       "1 bytes after the last tensor belong to no tensor" + kDamaged},
  };
}

class HostileFile : public ::testing::TestWithParam<Hostile> {};

TEST_P(HostileFile, IsRefused) {
  const Folder folder;
  const auto file = folder.write("x.safetensors", GetParam().bytes);
  EXPECT_EQ(error_of([&] { SafetensorsFile opened(file); }), file.string() + ": " + GetParam().says);
}

const auto name_of = [](const ::testing::TestParamInfo<Hostile>& info) {
  return std::string(info.param.name);
};
INSTANTIATE_TEST_SUITE_P(Container, HostileFile, ::testing::ValuesIn(of_the_container()), name_of);
INSTANTIATE_TEST_SUITE_P(Entry, HostileFile, ::testing::ValuesIn(of_an_entry()), name_of);
INSTANTIATE_TEST_SUITE_P(Place, HostileFile, ::testing::ValuesIn(of_an_entrys_place()), name_of);
INSTANTIATE_TEST_SUITE_P(Layout, HostileFile, ::testing::ValuesIn(of_the_layout()), name_of);

TEST(HostilePath, SaysWhatIsWrong) {
  const Folder folder;
  EXPECT_EQ(error_of([&] { SafetensorsFile opened(folder / "none.safetensors"); }),
            folder.str() +
                "/none.safetensors: cannot be read: No such file or directory"
                " | the checkpoint is incomplete; download the file");
  EXPECT_EQ(error_of([&] { SafetensorsFile opened(folder.path()); }),
            folder.str() + ": cannot be read: Is a directory | ");
}

// A valid header with a few bytes changed is either refused or read to its last byte.
TEST(HostileHeader, RandomMutationsNeverDoHarm) {
  const Folder folder;
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"a.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
      R"("b":{"dtype":"BF16","shape":[],"data_offsets":[24,26]},"c":{"dtype":"U8","shape":[0],"data_offsets":[26,26]}})";
  const std::string whole = safetensors(header, zeros(26));
  std::mt19937 random(11);
  const std::string alphabet = "{}[]\",:0123456789-.eEFUBdtx\\ \n\xff\x80" + zeros(1);
  int refused = 0, read = 0;
  for (int round = 0; round < 4000; ++round) {
    std::string bytes = whole;
    for (unsigned change = 0; change <= random() % 3; ++change) {
      const size_t at = random() % 10 == 0 ? random() % bytes.size() : 8 + random() % header.size();
      const char c = alphabet[random() % alphabet.size()];
      const auto kind = random() % 4;
      if (kind == 0) bytes.erase(std::min(at, bytes.size() - 1), 1);
      if (kind == 1) bytes.insert(std::min(at, bytes.size()), 1, c);
      if (kind >= 2) bytes[std::min(at, bytes.size() - 1)] = c;
      // Half of the time the length follows, so that the parser sees the change and not the first check
      // alone.
      if (random() % 2) bytes.replace(0, 8, little_endian(bytes.size() - 8 - 26));
    }
    const auto file = folder.write(std::to_string(round), bytes);
    const std::string error = error_of([&] {
      const SafetensorsFile opened(file);
      for (const auto& [key, stored] : opened.tensors())
        ASSERT_EQ(uint64_t(opened.tensor(key).nbytes()), stored.end - stored.begin);
    });
    fs::remove(file);
    error.empty() ? ++read : ++refused;
    ASSERT_TRUE(error.empty() || error.starts_with(file.string() + ": ")) << error;
    ASSERT_EQ(error.find('\n'), std::string::npos) << error;
  }
  EXPECT_GT(refused, 1000);
  EXPECT_GT(read, 10);
}

}  // namespace
}  // namespace sagelab::testing
