# SPDX-License-Identifier: Apache-2.0
# Included by ui/CMakeLists.txt.
set(SAGELAB_UI_COMPARE
  compare/canvas.cpp compare/clips.cpp compare/commands.cpp compare/differences.cpp compare/keys.cpp compare/overlay.cpp compare/transport.cpp
  compare/maths/clock.cpp compare/maths/layout.cpp compare/maths/pixels.cpp compare/maths/strip.cpp
  compare/maths/view.cpp)
