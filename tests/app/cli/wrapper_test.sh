#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# wrapper_test.sh ROOT: the wrapper runs what is built from wherever it is called, builds what is stale, and adds no noticeable time.
set -eu
root=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/tree
mkdir -p "$tree/build/release/bin" "$work/elsewhere"
cp -r "$root/sagelab" "$root/CMakeLists.txt" "$root/CMakePresets.json" "$root/cmake" "$root/scripts" "$root/attention" \
  "$root/pipelines" "$root/ui" "$root/app" "$tree"
printf '#!/bin/sh\nfor a; do echo "<$a>"; done\n' >"$tree/build/release/bin/sagelab"
chmod +x "$tree/build/release/bin/sagelab"
printf 'echo "built $*" >"%s/built"; touch "%s/build/release/.built"\n' "$work" "$tree" >"$tree/scripts/build.sh"
touch "$tree/build/release/.built"

fail() {
  echo "$1"
  exit 1
}

ln -s "$tree/sagelab" "$work/elsewhere/sl"
ln -s elsewhere/sl "$work/link"
got=$(cd / && SAGELAB_PRESET=release "$work/link" info --model 'a b')
[ "$got" = '<info>
<--model>
<a b>' ] || fail "through a symbolic link: $got"
[ ! -e "$work/built" ] || fail 'built what was fresh'

start=$(date +%s%N)
for _ in 1 2 3 4 5 6 7 8 9 10; do "$tree/sagelab" >/dev/null; done
taken=$((($(date +%s%N) - start) / 10000000)) # milliseconds a call
[ "$taken" -lt 200 ] || fail "a call through the wrapper takes $taken ms"

sleep 0.01
touch "$tree/pipelines/request.h"
"$tree/sagelab" >/dev/null
grep -q '^built release sagelab' "$work/built" || fail 'did not build what was stale'
echo "a call through the wrapper takes $taken ms"
