#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# format.sh [--check]: clang-format over every C++ and CUDA file that git knows.
set -eu
cd "$(dirname -- "$0")/.."
mode=-i
if [ "${1:-}" = --check ]; then mode='--dry-run --Werror'; fi
# shellcheck disable=SC2086
git ls-files '*.h' '*.cpp' '*.cu' '*.cuh' | xargs clang-format $mode
