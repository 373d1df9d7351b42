# SPDX-License-Identifier: Apache-2.0
# Dear ImGui (docking), its GLFW and OpenGL 3 backends, ImPlot and, for tests, Dear ImGui Test Engine, from the sources
# that scripts/bootstrap.sh unpacks. Headers are seen as the system's; warnings are off.
set(SAGELAB_IMGUI_ROOT "${CMAKE_SOURCE_DIR}/.venv/imgui_bundle" CACHE PATH "imgui-bundle's sources")
if(NOT EXISTS ${SAGELAB_IMGUI_ROOT}/external/imgui/imgui/imgui.h)
  message(FATAL_ERROR "Dear ImGui is not in ${SAGELAB_IMGUI_ROOT}: run scripts/bootstrap.sh build, or configure with "
                      "-DSAGELAB_UI=OFF for a program without the window")
endif()
find_package(OpenGL REQUIRED COMPONENTS OpenGL)
pkg_check_modules(glfw REQUIRED IMPORTED_TARGET glfw3)

set(imgui ${SAGELAB_IMGUI_ROOT}/external/imgui/imgui)
set(implot ${SAGELAB_IMGUI_ROOT}/external/implot/implot)
set(test_engine ${SAGELAB_IMGUI_ROOT}/external/imgui_test_engine/imgui_test_engine/imgui_test_engine)
set(imgui_sources imgui.cpp imgui_draw.cpp imgui_tables.cpp imgui_widgets.cpp imgui_stacklayout.cpp misc/cpp/imgui_stdlib.cpp
                  backends/imgui_impl_glfw.cpp backends/imgui_impl_opengl3.cpp backends/imgui_impl_null.cpp)
list(TRANSFORM imgui_sources PREPEND ${imgui}/)
# It brings its own declarations of OpenGL's functions, and the system's must not come before.
set_source_files_properties(${imgui}/backends/imgui_impl_opengl3.cpp PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
list(APPEND imgui_sources ${implot}/implot.cpp ${implot}/implot_items.cpp)

# What sources of ours include; an executable links one of the two below beside it.
add_library(sagelab_imgui_headers INTERFACE)
target_include_directories(sagelab_imgui_headers SYSTEM INTERFACE ${imgui} ${imgui}/backends ${imgui}/misc/cpp ${implot}
                           ${SAGELAB_IMGUI_ROOT}/external/portable_file_dialogs/portable_file_dialogs)
target_link_libraries(sagelab_imgui_headers INTERFACE PkgConfig::glfw OpenGL::GL)

function(sagelab_imgui_library name)
  add_library(${name} OBJECT ${ARGN})  # so that it does not matter in which order libraries stand
  target_link_libraries(${name} PUBLIC sagelab_imgui_headers Threads::Threads ${CMAKE_DL_LIBS})
  target_compile_options(${name} PRIVATE -w)
  # All that is plotted is doubles, and what is not fails to link; instances for ImPlot's ten types take minutes.
  target_compile_definitions(${name} PRIVATE "IMPLOT_CUSTOM_NUMERIC_TYPES=(double)")
endfunction()
sagelab_imgui_library(sagelab_imgui ${imgui_sources})

# The same with the hooks of the test engine.
if(SAGELAB_TESTS)
  sagelab_imgui_library(sagelab_imgui_tested ${imgui_sources}
    ${test_engine}/imgui_capture_tool.cpp ${test_engine}/imgui_te_context.cpp ${test_engine}/imgui_te_coroutine.cpp
    ${test_engine}/imgui_te_engine.cpp ${test_engine}/imgui_te_exporters.cpp ${test_engine}/imgui_te_perftool.cpp
    ${test_engine}/imgui_te_ui.cpp ${test_engine}/imgui_te_utils.cpp)
  # A name of its own that imgui.cpp has, too.
  set_source_files_properties(${test_engine}/imgui_te_context.cpp PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
  target_include_directories(sagelab_imgui_tested SYSTEM PUBLIC ${test_engine})
  target_compile_definitions(sagelab_imgui_tested PUBLIC IMGUI_ENABLE_TEST_ENGINE IMGUI_TEST_ENGINE_ENABLE_COROUTINE_STDTHREAD_IMPL=1)
endif()
