#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# build.sh PRESET TARGET...: installs what is missing, configures and builds. TARGET "all" includes the tests.
set -eu
preset=$1
shift
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
build=$root/build/$preset
tests=OFF
purpose=build
case " $* " in *" all "*) tests=ON purpose=test ;; esac
# A tree that was configured with tests keeps them.
if grep -qs '^SAGELAB_TESTS:BOOL=ON' "$build/CMakeCache.txt"; then tests=ON; fi

sh "$root/scripts/bootstrap.sh" "$purpose"
cuda=OFF
nvcc=$(sh "$root/scripts/find_nvcc.sh")
if [ -n "$nvcc" ] && [ "$preset" != dev ]; then
  cuda=ON
  export CUDACXX="$nvcc"
fi
mkdir -p "$build"
touch "$build/.building"
cd "$root"
if ! cmake --preset "$preset" -DSAGELAB_CUDA=$cuda -DSAGELAB_TESTS=$tests >"$build/configure.log" 2>&1; then
  cat "$build/configure.log" >&2
  exit 1
fi
ninja -C "$build" "$@"
mv "$build/.building" "$build/.built"
