// SPDX-License-Identifier: Apache-2.0
// Roboto (Apache License 2.0) and the icons from inside the program; Chinese, Japanese and Korean from the
// system's fonts where there are any.
#pragma once

namespace sagelab::ui {

inline constexpr float kFontSize = 15;  // pixels at 96 dots per inch

// Into ImGui's atlas, which draws glyphs as they are first used, at any size.
void add_fonts();
bool has_cjk_font();

}  // namespace sagelab::ui
