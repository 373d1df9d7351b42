#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# test.sh BUILD PRESET [--all] [ctest arguments]: builds and runs every test that this machine can run; --all adds the long ones.
set -eu
build=$1 preset=$2
shift 2
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
skip='-LE long'
if [ "${1:-}" = --all ]; then
  skip=''
  shift
fi
sh "$root/scripts/build.sh" "$preset" all
cores=$(nproc)
# Tests run side by side, so each gets one thread. Large tensors stay in the heap: a tenth of the tests' time went to
# pages that the kernel cleared again and again.
export MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=4294967296
# shellcheck disable=SC2086
OMP_NUM_THREADS=1 exec ctest --test-dir "$build" --output-on-failure -j "$cores" $skip "$@"
