#!/usr/bin/env bash
# Makes the virtual environment (or brings it up to date) and says in plain words what stops it.
#   tools/setup.sh EXTRAS      such as dev; reads PYTHON, PIP_FLAGS, VENV from the environment
set -euo pipefail
cd "$(dirname "$0")/.."

extra=${1:?which extras: dev, or such as text,plot}
venv=${VENV:-.venv}
need_mb=3000 # a CPU build of torch and the rest take about 1.5 GB; pip unpacks beside what it downloaded

say() { printf 'canton: %s\n' "$*" >&2; }
stop() {
  say "$@"
  exit 1
}

is_new_enough() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2])' 2>/dev/null; }

find_python() { # prints the first Python >= 3.10
  local candidate
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10 python3.14}; do
    if command -v "$candidate" >/dev/null && is_new_enough "$candidate"; then
      command -v "$candidate"
      return
    fi
  done
  if [ -n "${PYTHON:-}" ] && ! command -v "$PYTHON" >/dev/null; then
    say "PYTHON=$PYTHON is no program here"
  elif [ -n "${PYTHON:-}" ]; then
    say "PYTHON=$PYTHON is not a Python of version 3.10 or later: $("$PYTHON" --version 2>&1 || true)"
  elif command -v python3 >/dev/null; then
    say "the python3 here is $(python3 --version 2>&1), and Canton needs 3.10 or later"
  else
    say "no python3 here; on Debian or Ubuntu: sudo apt install python3 python3-venv"
  fi
  stop "name one with: make test PYTHON=/path/to/python3"
}

make_venv() {
  local python free_mb
  python=$(find_python)
  free_mb=$(df -Pm . | awk 'NR == 2 {print $4}')
  if [ "$free_mb" -lt "$need_mb" ]; then
    stop "only $free_mb MB free on this disk, and the environment needs about $need_mb MB"
  fi
  if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    say "$python has no venv module"
    stop "on Debian or Ubuntu: sudo apt install python3-venv (or python$("$python" -c \
      'import sys; print("%d.%d" % sys.version_info[:2])')-venv)"
  fi
  say "making $venv with $("$python" --version) ($python)"
  rm -rf "$venv"
  "$python" -m venv "$venv" || stop "could not make $venv (see above)"
}

explain() { # reads pip's output, says the likely cause
  local log=$1
  if grep -q 'No space left on device' "$log"; then
    stop "the disk is full: $(df -Ph . | awk 'NR == 2 {print $4}') free here, and pip also writes to ${TMPDIR:-/tmp}"
  elif grep -qE 'name resolution|Failed to resolve|NewConnectionError|Network is unreachable|ConnectTimeout|ProxyError|getaddrinfo' "$log"; then
    stop "pip cannot reach its package index: no network, or a proxy it was not told of"
  elif grep -q 'No matching distribution found for torch' "$log"; then
    stop "no torch for $("$venv/bin/python" --version) on $(uname -sm); try another with: make test PYTHON=python3.12"
  fi
  stop "pip failed (its words are above, and in $log)"
}

install() { # pip install; its words go to the screen and to a log for explain
  local log=$venv/setup.log status
  local dull='^(Requirement already|Looking in|Obtaining| *(Building|Preparing|Checking|Installing build|Created|Stored)'
  dull+='|Building wheels|Successfully built| *(Attempting|Found existing|Uninstalling|Successfully uninst))'
  set +e
  # shellcheck disable=SC2086  # PIP_FLAGS is several words
  "$venv/bin/python" -m pip install --disable-pip-version-check ${PIP_FLAGS:-} -c constraints.txt "$@" 2>&1 |
    tee "$log" | grep -vE --line-buffered "$dull" >&2
  status=${PIPESTATUS[0]}
  set -e
  if [ "$status" -ne 0 ]; then explain "$log"; fi
}

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1 || ! is_new_enough "$venv/bin/python"; then
  make_venv
fi
# torch first and pinned: a bare range would take the newest build, with gigabytes of CUDA beside it on Linux.
install 'torch==2.13.0'
# The build runs inside this environment, so that a native kernel is built by the very tools it will run with.
install hatchling editables
install --no-build-isolation -e ".[$extra]"

touch "$venv/.ready-text"
if [ "$extra" = dev ]; then touch "$venv/.ready-dev"; fi
say "$venv is ready"
