// SPDX-License-Identifier: Apache-2.0
#include "ui/look/fonts.h"

#include <imgui.h>

#include <cstdint>
#include <cstdio>
#include <fstream>

// The files' bytes as they are, without a detour through C++ text.
#define SAGELAB_EMBED(name, file)                                        \
  __asm__(                                                               \
      ".pushsection .rodata\n"                                           \
      ".balign 16\n" #name                                               \
      ":\n"                                                              \
      ".incbin \"" file "\"\n" #name                                     \
      "_end:\n"                                                          \
      ".byte 0\n"                                                        \
      ".popsection\n");                                                  \
  extern "C" const uint8_t name[] __attribute__((visibility("hidden"))); \
  extern "C" const uint8_t name##_end[] __attribute__((visibility("hidden")))

SAGELAB_EMBED(sagelab_font_text, SAGELAB_FONT_TEXT);
SAGELAB_EMBED(sagelab_font_icons, SAGELAB_FONT_ICONS);

namespace sagelab::ui {
namespace {

constexpr const char* kCjkFonts[] = {
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/google-noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
    "/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf",  // without Korean
};

const char* cjk_font() {
  for (const char* file : kCjkFonts)
    if (std::ifstream(file)) return file;
  return nullptr;
}

void add_embedded(const uint8_t* begin, const uint8_t* end, const char* name, bool merge) {
  ImFontConfig config;
  config.FontDataOwnedByAtlas = false;
  config.MergeMode = merge;
  config.PixelSnapH = true;
  if (merge) config.GlyphOffset.y = 1, config.ExtraSizeScale = .86f;
  std::snprintf(config.Name, sizeof config.Name, "%s", name);
  ImGui::GetIO().Fonts->AddFontFromMemoryTTF(const_cast<uint8_t*>(begin), int(end - begin), kFontSize,
                                             &config);
}

}  // namespace

bool has_cjk_font() {
  return cjk_font() != nullptr;
}

void add_fonts() {
  add_embedded(sagelab_font_text, sagelab_font_text_end, "Roboto", false);
  add_embedded(sagelab_font_icons, sagelab_font_icons_end, "icons", true);
  if (const char* file = cjk_font()) {
    ImFontConfig config;
    config.MergeMode = true;
    ImGui::GetIO().Fonts->AddFontFromFileTTF(file, kFontSize, &config);
  }
}

}  // namespace sagelab::ui
