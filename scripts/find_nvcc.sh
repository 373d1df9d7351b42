#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Prints the nvcc to build with: $CUDACXX, the machine's (13.x, LibTorch's own major version) or the one in .venv; nothing where there is none.
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
for nvcc in "${CUDACXX:-}" "$(command -v nvcc)" /usr/local/cuda/bin/nvcc "$root"/.venv/lib/python3*/site-packages/nvidia/cu13/bin/nvcc; do
  [ -x "$nvcc" ] || continue
  case $("$nvcc" --version) in *'release 13.'*) echo "$nvcc" && exit 0 ;; esac
done
