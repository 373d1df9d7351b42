# SPDX-License-Identifier: Apache-2.0
# sagelab_kernels(<name> [REPORT] ARCHITECTURES <arch>... SOURCES <file>...): an OBJECT library of CUDA files that
# include no Torch header. Declared before Torch is looked at, so nothing of its CUDA flags reaches them. REPORT: registers
# and spills of each kernel go into the build log, and into a file beside the object for a test to read.
if(SAGELAB_CUDA)
  set(CMAKE_CUDA_ARCHITECTURES OFF)
  enable_language(CUDA)
  # CMake 3.25 does not know that nvcc 13 has C++20.
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA_RUNTIME_LIBRARY None)  # LibTorch's own, linked in dependencies.cmake
endif()

# For kernels without instructions of one chip: Ampere (8.6 runs 8.0's code) to Hopper as machine code, newer chips by PTX.
set(SAGELAB_COMMON_ARCHITECTURES 80-real 89-real 90)

function(sagelab_kernels name)
  cmake_parse_arguments(K "REPORT" "" "ARCHITECTURES;SOURCES" ${ARGN})
  add_library(${name} OBJECT ${K_SOURCES})
  set_target_properties(${name} PROPERTIES CUDA_ARCHITECTURES "${K_ARCHITECTURES}"
                                           POSITION_INDEPENDENT_CODE ON UNITY_BUILD OFF)
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR})
  target_compile_options(${name} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra --expt-relaxed-constexpr>)
  if(K_REPORT)
    target_compile_options(${name} PRIVATE -Xptxas=-v)
    set_target_properties(${name} PROPERTIES RULE_LAUNCH_COMPILE "sh ${CMAKE_SOURCE_DIR}/cmake/ptxas_log.sh <OBJECT>")
  endif()
endfunction()
