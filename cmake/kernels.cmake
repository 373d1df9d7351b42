# SPDX-License-Identifier: Apache-2.0
# sagelab_kernels(<name> ARCHITECTURES <arch>... SOURCES <file>...): an OBJECT library of CUDA files that
# include no Torch header. Declared before Torch is looked at, so nothing of its CUDA flags reaches them.
if(SAGELAB_CUDA)
  set(CMAKE_CUDA_ARCHITECTURES OFF)
  enable_language(CUDA)
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_RUNTIME_LIBRARY None)  # LibTorch's own, linked in dependencies.cmake
endif()

function(sagelab_kernels name)
  cmake_parse_arguments(K "" "" "ARCHITECTURES;SOURCES" ${ARGN})
  add_library(${name} OBJECT ${K_SOURCES})
  set_target_properties(${name} PROPERTIES CUDA_ARCHITECTURES "${K_ARCHITECTURES}"
                                           POSITION_INDEPENDENT_CODE ON)
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR})
  target_compile_options(${name} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra --expt-relaxed-constexpr>)
endfunction()
