#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Who may include what, how long a file and a function may be, and how many files a folder holds. Prints each violation;
# exit 1 if there is any.
set -eu
cd "$(dirname -- "$0")/.."
status=0

forbid() { # message, pattern, paths...
  message=$1 pattern=$2
  shift 2
  if git grep -nIE "$pattern" -- "$@"; then
    echo "^ $message"
    status=1
  fi
}

forbid_but() { # message, pattern, exception, paths...
  message=$1 pattern=$2 exception=$3
  shift 3
  if git grep -nIE -e "$pattern" --and --not -e "$exception" -- "$@"; then
    echo "^ $message"
    status=1
  fi
}

forbid 'attention stands below pipelines, app and ui' '#include "(pipelines|app|ui)/' 'attention/*'
forbid 'pipelines stand below app and ui' '#include "(app|ui)/' 'pipelines/*'
forbid 'ui sees of the layers below only request.h, frames.h and progress.h' '#include ("(attention|app)/|<(ATen|torch|c10)/)' 'ui/*'
forbid_but 'ui sees of the layers below only request.h, frames.h and progress.h' '#include "pipelines/' '"pipelines/(request|frames|progress)\.h"' 'ui/*'
forbid 'of ui/, only texture and window touch GL' '#include <(GL|GLFW)/' 'ui/*' ':!ui/texture.cpp' ':!ui/platform/window.cpp'
# Benches time tensors, and so does a first guess of how long a run takes; a session frees the cached ones; the system is
# asked for its devices.
forbid 'of app/, only session, system, attend, bench/ and machine_speed see Torch' '#include <(ATen|torch|c10)/' 'app/*' ':!app/session.cpp' ':!app/system.*' ':!app/commands/attend*' ':!app/commands/bench/*' ':!app/gui/tasks/machine_speed.cpp'
forbid 'FFmpeg and stb stay in app/media' '#include .*(libav|libsw|stb_image)' 'attention/*' 'pipelines/*' 'ui/*' 'app/*.cpp' 'app/*.h' ':!app/media/*'
forbid 'ImGui and GL stay in ui' '#include .*(imgui|GLFW|GL/)' 'attention/*' 'pipelines/*' 'app/*'
forbid 'request.h, frames.h and progress.h hold no tensors' '#include <(ATen|torch|c10)/' 'pipelines/request.h' 'pipelines/frames.h' 'pipelines/progress.h'
forbid 'kernels include no Torch header' '#include <(ATen|torch|c10)/' '*.cu' '*.cuh'
forbid 'a family is named only in its folder and in the registry' '"(pipelines/)?(cogvideox|flux|sd3|hunyuanvideo|mochi)/' 'attention/*' 'app/*' 'ui/*' 'pipelines/core/*' 'pipelines/text/*'
if git grep -niE 'flux|sd3|mochi|cogvideox|hunyuanvideo' -- app ui attention; then
  echo '^ no family is named in app, ui or attention'
  status=1
fi

for file in $(git ls-files '*.h' '*.cpp' '*.cu' '*.cuh' '*.py' '*.sh'); do
  case $file in *.h) most=120 ;; *.cu | *.cuh) most=700 ;; *) most=400 ;; esac
  lines=$(wc -l <"$file")
  if [ "$lines" -gt "$most" ]; then
    echo "$file: $lines lines (at most $most)"
    status=1
  fi
done
most=14
for folder in $(git ls-files attention pipelines ui app tests | sed 's|/[^/]*$||' | sort -u); do
  count=$(git ls-files "$folder" | sed "s|^$folder/||" | grep -vc /)
  if [ "$count" -gt "$most" ]; then
    echo "$folder: $count files (at most $most)"
    status=1
  fi
done
# Left out: what has its parameters from elsewhere (an operator's schema, diffusers' own methods), and what waits for its turn.
git ls-files '*.h' '*.cpp' '*.cu' '*.cuh' '*.py' ':!attention/library' ':!tests/oracle/*/wrong/*' ':!attention/sage2/mma/mma.cuh' \
  ':!tests/attention/library_test.py' ':!tests/oracle/cogvideox/gpu.py' | xargs python3 scripts/check_functions.py || status=1
exit $status
