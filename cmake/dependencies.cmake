# SPDX-License-Identifier: Apache-2.0
# Every dependency outside the compiler. Torch comes last.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(fmt 9 REQUIRED)
find_package(CLI11 2.1 REQUIRED)
pkg_check_modules(icu REQUIRED IMPORTED_TARGET icu-uc)
if(SAGELAB_FFMPEG)
  pkg_check_modules(libav REQUIRED IMPORTED_TARGET libavformat libavcodec libavutil libswscale)
endif()
if(SAGELAB_TESTS)
  find_package(GTest 1.12 REQUIRED)
  include(GoogleTest)
endif()

find_program(SAGELAB_CCACHE ccache)
if(SAGELAB_CCACHE)
  # ccache sees through a precompiled header only when told that macros in it do not matter.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${SAGELAB_CCACHE})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${SAGELAB_CCACHE})
endif()

# LibTorch is the C++ half of the PyTorch wheel. Its own TorchConfig.cmake wants a complete CUDA toolkit
# (cuBLAS, NVTX, ... development files) and sets global CUDA flags; the headers and libraries named here need neither.
execute_process(COMMAND ${SAGELAB_PYTHON} -c "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
                OUTPUT_VARIABLE SAGELAB_TORCH_ROOT OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
add_library(sagelab_torch INTERFACE)
target_include_directories(sagelab_torch SYSTEM INTERFACE ${SAGELAB_TORCH_ROOT}/include
                                                          ${SAGELAB_TORCH_ROOT}/include/torch/csrc/api/include)
target_link_directories(sagelab_torch INTERFACE ${SAGELAB_TORCH_ROOT}/lib)
# --no-as-needed: libtorch_cuda registers its kernels when it is loaded, and nothing names a symbol of it.
target_link_libraries(sagelab_torch INTERFACE torch_cpu c10)
if(SAGELAB_CUDA)
  file(GLOB cudart ${SAGELAB_TORCH_ROOT}/../nvidia/cu13/lib/libcudart.so.13)  # the runtime that LibTorch loads
  if(NOT cudart)
    message(FATAL_ERROR "this LibTorch brings no CUDA 13 runtime; configure with -DSAGELAB_CUDA=OFF")
  endif()
  target_link_libraries(sagelab_torch INTERFACE -Wl,--no-as-needed torch_cuda c10_cuda -Wl,--as-needed ${cudart})
  target_compile_definitions(sagelab_torch INTERFACE SAGELAB_CUDA=1)
  target_include_directories(sagelab_torch SYSTEM INTERFACE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
endif()
list(APPEND CMAKE_BUILD_RPATH ${SAGELAB_TORCH_ROOT}/lib)

# fmt is used header-only: LibTorch's headers bring a newer fmt than Debian's, found first, and libfmt would not fit it.

# One precompiled header for every target that sees tensors.
file(WRITE ${CMAKE_BINARY_DIR}/pch.cpp "")
add_library(sagelab_pch_headers INTERFACE)
target_link_libraries(sagelab_pch_headers INTERFACE sagelab_torch sagelab_warnings nlohmann_json::nlohmann_json fmt::fmt-header-only)
set(SAGELAB_PRECOMPILED <ATen/ATen.h> <nlohmann/json.hpp> <fmt/format.h> <map> <string> <vector>)
add_library(sagelab_pch OBJECT ${CMAKE_BINARY_DIR}/pch.cpp)
target_link_libraries(sagelab_pch PUBLIC sagelab_pch_headers)
target_precompile_headers(sagelab_pch PRIVATE ${SAGELAB_PRECOMPILED})
set_target_properties(sagelab_pch PROPERTIES POSITION_INDEPENDENT_CODE ON)

# sagelab_library(<name> SOURCES <file>... LINK <target>...): a static library with tensors in it.
function(sagelab_library name)
  cmake_parse_arguments(L "" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} STATIC ${L_SOURCES})
  set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR})
  target_precompile_headers(${name} REUSE_FROM sagelab_pch)
  target_link_libraries(${name} PUBLIC sagelab_torch sagelab_warnings nlohmann_json::nlohmann_json fmt::fmt-header-only ${L_LINK})
endfunction()

# Tests call what is optimized, and need not be so themselves: compiling them takes half the time. Inline code of
# our headers may then be theirs, too.
if(SAGELAB_TESTS)
  add_library(sagelab_test_pch OBJECT ${CMAKE_BINARY_DIR}/pch.cpp)
  target_link_libraries(sagelab_test_pch PUBLIC sagelab_pch_headers GTest::gmock)
  target_precompile_headers(sagelab_test_pch PRIVATE ${SAGELAB_PRECOMPILED} <gmock/gmock.h> <gtest/gtest.h>)
  target_compile_options(sagelab_test_pch PRIVATE $<$<CONFIG:Release>:-O1>)
endif()

# sagelab_test(<name> SOURCES <file>... LINK <target>... LABELS <label>...): one GoogleTest binary.
function(sagelab_test name)
  cmake_parse_arguments(T "" "" "SOURCES;LINK;LABELS" ${ARGN})
  add_executable(${name} ${T_SOURCES})
  target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O1>)
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR})
  target_precompile_headers(${name} REUSE_FROM sagelab_test_pch)
  target_link_libraries(${name} PRIVATE sagelab_torch sagelab_warnings ${T_LINK} GTest::gtest_main GTest::gmock)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS "${T_LABELS}" TIMEOUT 1200)
endfunction()
