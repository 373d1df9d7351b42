// SPDX-License-Identifier: Apache-2.0
// Glyphs of Font Awesome 6 Free (SIL Open Font License 1.1), merged into the text font.
#pragma once

namespace sagelab::ui::icon {

inline constexpr const char *kPlay = "\uf04b", *kPause = "\uf04c", *kStepBack = "\uf048", *kStep = "\uf051",
                            *kLoop = "\uf01e", *kFolder = "\uf07c", *kDice = "\uf522", *kTrash = "\uf1f8",
                            *kUp = "\uf062", *kDown = "\uf063", *kStop = "\uf04d", *kRetry = "\uf2f9",
                            *kExport = "\uf56e", *kImport = "\uf56f", *kWarning = "\uf071", *kInfo = "\uf05a",
                            *kSun = "\uf185", *kMoon = "\uf186", *kCheck = "\uf00c", *kClock = "\uf017",
                            *kMemory = "\uf538", *kCompare = "\uf24d", *kPlus = "\u002b", *kRuler = "\uf545",
                            *kFilm = "\uf008", *kImage = "\uf03e", *kReport = "\uf15c", *kColumns = "\uf0db",
                            *kLock = "\uf023", *kBolt = "\uf0e7", *kBrush = "\uf1fc", *kQuestion = "\uf059";

}  // namespace sagelab::ui::icon
