# SPDX-License-Identifier: Apache-2.0
add_library(sagelab_warnings INTERFACE)
target_compile_options(sagelab_warnings INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Werror>)
# Several sources in one unit share LibTorch's headers: a build from nothing takes a third of the time. There every
# source looks like a header to this warning; preset dev, one unit a source and without CUDA, shows it.
if(CMAKE_UNITY_BUILD)
  target_compile_options(sagelab_warnings INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-subobject-linkage>)
endif()
