#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# outside.sh SAGELAB OUT, in a display: the program itself, by mouse and keys from outside. It generates, survives kill -9 in the
# middle of a run with its queue and its results, keeps its layout, and closes; and it is
# shown on a display of 192 dots per inch.
set -eu
program=$1 out=$2
rm -rf "$out"
mkdir -p "$out"
export XDG_STATE_HOME="$out/xdg"
state=$out/xdg/sagelab
desktop=
trap 'kill -9 $pid $desktop 2>/dev/null || true' EXIT

fail() {
  ffmpeg -v error -y -f x11grab -i "$DISPLAY" -frames:v 1 "$out/failed.png" 2>/dev/null || true
  echo "failed: $1"
  exit 1
}
# until SECONDS COMMAND: whether the command holds in time.
until_holds() {
  left=$(($1 * 5))
  shift
  while ! sh -c "$*" >/dev/null 2>&1; do
    left=$((left - 1))
    [ $left -gt 0 ] || return 1
    kill -0 "$pid" 2>/dev/null || return 1
    sleep .2
  done
}
start() { # with the command, or without where there is a display
  "$program" "$@" 2>>"$out/stderr" &
  pid=$!
  # A search that meets a window which is just closed ends in an error: again.
  until_holds 60 "xdotool search --onlyvisible --pid $pid >'$out/window'" || fail "there is no window"
  window=$(tail -1 "$out/window")
  xdotool windowfocus "$window"
}

generate() {
  xdotool windowfocus "$window" key ctrl+Return
  until_holds 20 "grep -q -E 'running|waiting' '$state/state.json'" || fail "Ctrl+Enter started nothing ($1)"
}

place() {
  xdotool windowmove --sync "$window" 0 0 windowsize --sync "$window" 1366 768
  sleep 1
}
# see WIDTH HEIGHT X Y FILE: those pixels.
see() {
  ffmpeg -v error -y -f x11grab -draw_mouse 0 -video_size "$1x$2" -i "$DISPLAY+$3,$4" -frames:v 1 \
    -pix_fmt rgb24 -f rawvideo "$out/$5" || fail "the window cannot be seen"
}
closes() {
  xdotool windowfocus "$window"
  xdotool key ctrl+q
  until_holds 10 "! kill -0 $pid" || true
  wait $pid || fail "it did not end well"
}

# Clicks that come with the move to them: on one tab and the other, whose panels are not alike.
click_tab() {
  xdotool mousemove --window "$window" 700 300
  sleep .3
  xdotool mousemove --window "$window" "$1" 35 click 1
  sleep .7
  see 340 200 1026 50 "$2"
}
clicks_at_once() {
  place
  click_tab 1148 metrics
  click_tab 1080 attention
  for again in 1 2 3; do
    click_tab 1148 tab
    ! cmp -s "$out/attention" "$out/tab" || fail "the other tab was not chosen, click $again"
    click_tab 1080 tab
    cmp -s "$out/attention" "$out/tab" || fail "the first tab was not chosen, click $again"
  done
}

start gui
until_holds 60 "grep -q assets/demo '$state/state.json'" || fail "the bundled model is not chosen"
sleep 1
clicks_at_once
generate first
until_holds 240 "test -f '$state/results/1.json'" || fail "the first run made nothing"
until_holds 10 "! grep -q -E 'running|waiting' '$state/state.json'" || fail "the first run does not end"
generate second
sleep 1
kill -9 $pid
wait $pid 2>/dev/null || true
[ ! -f "$state/results/2.json" ] || fail "it was done too soon to be killed"

start
until_holds 30 "grep -q '\"paused\": true' '$state/state.json' && grep -q waiting '$state/state.json'" ||
  fail "the queue is gone after a crash"
[ -f "$state/results/1.json" ] || fail "the result is gone after a crash"
place
see 20 200 411 250 before
xdotool mousemove 310 400 mousedown 1
sleep .3
xdotool mousemove 360 400 mousemove 420 400
sleep .3
xdotool mouseup 1
sleep .7
xdotool mousemove 700 300
sleep .5
see 20 200 411 250 dragged
! cmp -s "$out/before" "$out/dragged" || fail "the panel's side cannot be dragged"
closes

start
place
xdotool mousemove 700 300
sleep .5
see 20 200 411 250 again
cmp -s "$out/dragged" "$out/again" || fail "the layout is not remembered"
closes

# A display of twice as many dots per inch, as the desktop says it; where nobody is there the server forgets.
python3 -c '
import ctypes, time
x = ctypes.CDLL("libX11.so.6")
x.XOpenDisplay.restype, x.XDefaultRootWindow.restype = ctypes.c_void_p, ctypes.c_ulong
display, text = ctypes.c_void_p(x.XOpenDisplay(None)), b"Xft.dpi:\t192\n"
root, resources, string, replace = ctypes.c_ulong(x.XDefaultRootWindow(display)), b"RESOURCE_MANAGER", ctypes.c_ulong(31), 0
atom = ctypes.c_ulong(x.XInternAtom(display, resources, 0))
x.XChangeProperty(display, root, atom, string, 8, replace, text, len(text))
x.XFlush(display)
time.sleep(60)' &
desktop=$!
sleep 1
size_of() { xdotool getwindowgeometry --shell "$window" | sed -n "s/^$1=//p"; }
start
sleep 2
see "$(size_of WIDTH)" "$(size_of HEIGHT)" "$(size_of X)" "$(size_of Y)" doubled
[ "$(size_of WIDTH)" -ge 2400 ] || fail "the window is no larger where there are twice as many dots per inch"
ffmpeg -v error -y -f rawvideo -pix_fmt rgb24 -video_size "$(size_of WIDTH)x$(size_of HEIGHT)" -i "$out/doubled" \
  -frames:v 1 "$out/doubled.png"
closes
find "$state" -name '*-192dpi.ini' | grep -q . || fail "the layout of this display is not kept by itself"
kill $desktop || true
trap - EXIT
echo "generated, killed, restored, arranged and closed"
