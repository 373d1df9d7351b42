// SPDX-License-Identifier: Apache-2.0
// Single files under their authors' names: which of their rows a tensor of diffusers' layout is made of.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sagelab {

// One rule. In both patterns * is one number, the same one; a pattern that ends in a dot stands for all that
// follows it, the same in both.
struct OriginalName {
  std::string_view ours, theirs;
  int begin = 0, end = 1, of = 1;  // the rows [begin, end) of `of` equal shares: q is 0 to 1 of 3 of qkv
  bool swapped = false;            // the first half of the rows comes last: shift, scale -> scale, shift
  bool matrix = false;             // theirs is a 1x1 convolution, ours a matrix
};

// A component's rules, the first that fits counts, and what its keys begin with in a file of several
// components: "model.diffusion_model.".
struct OriginalNames {
  std::span<const OriginalName> rules;
  std::span<const std::string_view> prefixes;
};

// Of every family's transformer.
inline constexpr std::string_view kOriginalTransformerPrefixes[] = {"model.diffusion_model."};

// key under the other pattern; empty where it does not fit `from`.
std::string renamed(std::string_view key, std::string_view from, std::string_view to);

}  // namespace sagelab
