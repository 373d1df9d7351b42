#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# bootstrap.sh build|test: installs what building (or building and testing) needs and this machine lacks: Debian
# packages, and a .venv with LibTorch (and nvcc, and the oracles of the tests). Does nothing where nothing is missing.
set -eu
purpose=$1
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
venv=$root/.venv

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

install_packages
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
pip_install "$root/scripts/requirements.txt"
if [ -z "$(sh "$root/scripts/find_nvcc.sh")" ]; then
  pip_install "$root/scripts/requirements-cuda.txt"
  # The wheels keep their libraries in lib; nvcc looks in lib64.
  ln -sfn lib "$(echo "$venv"/lib/python3*/site-packages/nvidia/cu13)/lib64"
fi
if [ "$purpose" = test ]; then pip_install "$root/scripts/requirements-test.txt"; fi
