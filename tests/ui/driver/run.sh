#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run.sh COMMAND...: in a display of Xvfb. Exit 77 (skipped) where there is none.
set -eu
for tool in Xvfb xvfb-run xauth xdotool ffmpeg; do
  command -v $tool >/dev/null 2>&1 || {
    echo "skipped: there is no $tool here (Debian: xvfb xauth xdotool ffmpeg)"
    exit 77
  }
done
exec xvfb-run -a -s "-screen 0 3840x2160x24" "$@"
