# SPDX-License-Identifier: Apache-2.0
add_library(sagelab_warnings INTERFACE)
target_compile_options(sagelab_warnings INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Werror>)
