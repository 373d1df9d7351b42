// SPDX-License-Identifier: Apache-2.0
#include "pipelines/text/original.h"

namespace sagelab {
namespace {

constexpr std::string_view kT5[] = {"text_encoders.t5xxl.transformer."};
constexpr std::string_view kClipL[] = {"text_encoders.clip_l.transformer."};
constexpr std::string_view kClipG[] = {"text_encoders.clip_g.transformer."};

}  // namespace

const OriginalNames& original_t5_names() {
  static constexpr OriginalNames kNames{{}, kT5};
  return kNames;
}

const OriginalNames& original_clip_l_names() {
  static constexpr OriginalNames kNames{{}, kClipL};
  return kNames;
}

const OriginalNames& original_clip_g_names() {
  static constexpr OriginalNames kNames{{}, kClipG};
  return kNames;
}

}  // namespace sagelab
