#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# bootstrap.sh build|test: installs what building (or building and testing) needs and this machine lacks: Debian
# packages, and a .venv with LibTorch (and nvcc, Dear ImGui's sources, the oracles of the tests). Does nothing where
# nothing is missing. SAGELAB_PRESET=headless leaves out what only the window needs.
set -eu
purpose=$1
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
venv=$root/.venv
window=yes
if [ "${SAGELAB_PRESET:-}" = headless ]; then window=no; fi

say() { printf 'sagelab: %s\n' "$*" >&2; }

# Debian's name for each thing that is looked for: a command, a pkg-config module or a header.
missing_packages() {
  have_command() { command -v "$1" >/dev/null 2>&1 || echo "$2"; }
  have_module() { pkg-config --exists "$1" 2>/dev/null || echo "$2"; }
  have_header() { [ -e "/usr/include/$1" ] || [ -e "/usr/local/include/$1" ] || echo "$2"; }
  have_command g++ g++
  have_command cmake cmake
  have_command ninja ninja-build
  have_command pkg-config pkg-config
  have_command ccache ccache
  python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
  have_module 'icu-uc >= 70' libicu-dev
  have_module 'fmt >= 9' libfmt-dev
  have_module 'nlohmann_json >= 3.11' nlohmann-json3-dev
  have_header CLI/CLI.hpp libcli11-dev
  have_header stb/stb_image_write.h libstb-dev
  have_module 'libavcodec >= 59' libavcodec-dev
  have_module 'libavformat >= 59' libavformat-dev
  have_module libavutil libavutil-dev
  have_module libswscale libswscale-dev
  if [ $window = yes ]; then
    have_module glfw3 libglfw3-dev
    have_module gl libgl-dev
    have_header ../share/fonts/truetype/wqy/wqy-microhei.ttc fonts-wqy-microhei
    if [ "$purpose" = test ]; then
      have_command Xvfb xvfb
      have_command xauth xauth
      have_command xdotool xdotool
      [ -n "$(find /usr/lib -name swrast_dri.so 2>/dev/null)" ] || echo libgl1-mesa-dri
    fi
  fi
  if [ "$purpose" = test ]; then
    have_module gtest libgtest-dev
    have_module gmock libgmock-dev
    have_command ffprobe ffmpeg
    have_command clang-format clang-format
  fi
}

install_packages() {
  # shellcheck disable=SC2046
  set -- $(missing_packages)
  [ $# -gt 0 ] || return 0
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    say "installing $*"
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
    return 0
  fi
  say "these are missing (Debian's package names): $*"
  if command -v apt-get >/dev/null 2>&1; then
    say "install them: sudo apt-get install $*"
  else
    say "install what your distribution calls them, then run this again"
  fi
  exit 1
}

# pip_install FILE: once per content of FILE, and all or nothing.
pip_install() {
  stamp=$venv/.$(basename "$1")
  cmp -s "$1" "$stamp" && return 0
  say "installing $(grep -v '^#' "$1" | tr '\n' ' ')into .venv"
  "$venv/bin/python" -m pip install -q --disable-pip-version-check -r "$1" >&2
  cp "$1" "$stamp"
}

# Of imgui-bundle's source package, the libraries that the window and its tests are compiled from: all or nothing.
unpack_imgui() {
  unpacked=$venv/.imgui_bundle.txt
  cmp -s "$root/scripts/imgui_bundle.txt" "$unpacked" && return 0
  pip_install "$root/scripts/requirements-ui.txt"
  say "fetching $(cut -d' ' -f1 "$root/scripts/imgui_bundle.txt")"
  rm -rf "$venv/imgui_bundle"
  mkdir "$venv/imgui_bundle"
  "$venv/bin/python" -m pip download -q --disable-pip-version-check --no-deps --no-binary :all: --no-build-isolation \
    --require-hashes -d "$venv/imgui_bundle" -r "$root/scripts/imgui_bundle.txt" >&2
  tar -xzf "$venv/imgui_bundle"/*.tar.gz -C "$venv/imgui_bundle" --strip-components=1 --wildcards \
    '*/external/imgui/imgui/*' '*/external/implot/implot/*' '*/external/portable_file_dialogs/*' \
    '*/external/imgui_test_engine/imgui_test_engine/imgui_test_engine/*' \
    '*/bindings/imgui_bundle/assets/fonts/Roboto/Roboto-Regular.ttf' \
    '*/bindings/imgui_bundle/assets/fonts/Font_Awesome_6_Free-Solid-900.otf'
  rm "$venv/imgui_bundle"/*.tar.gz
  cp "$root/scripts/imgui_bundle.txt" "$unpacked"
}

install_packages
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
pip_install "$root/scripts/requirements.txt"
if [ -z "$(sh "$root/scripts/find_nvcc.sh")" ]; then
  pip_install "$root/scripts/requirements-cuda.txt"
  # The wheels keep their libraries in lib; nvcc looks in lib64.
  ln -sfn lib "$(echo "$venv"/lib/python3*/site-packages/nvidia/cu13)/lib64"
fi
if [ $window = yes ]; then unpack_imgui; fi
if [ "$purpose" = test ]; then pip_install "$root/scripts/requirements-test.txt"; fi
