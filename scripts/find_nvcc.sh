#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Prints the nvcc to build with: $CUDACXX, the machine's (12.8 or newer) or the one in .venv; nothing where there is none.
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
for nvcc in "${CUDACXX:-}" "$(command -v nvcc)" /usr/local/cuda/bin/nvcc "$root"/.venv/lib/python3*/site-packages/nvidia/cu13/bin/nvcc; do
  [ -x "$nvcc" ] || continue
  version=$("$nvcc" --version | sed -n 's/.*release \([0-9]*\)\.\([0-9]*\).*/\1 \2/p')
  # shellcheck disable=SC2086
  set -- $version
  if [ "${1:-0}" -gt 12 ] || { [ "${1:-0}" -eq 12 ] && [ "${2:-0}" -ge 8 ]; }; then
    echo "$nvcc"
    exit 0
  fi
done
