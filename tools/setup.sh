#!/usr/bin/env bash
# Creates or updates the virtual environment; on failure it prints the likely cause.
#   tools/setup.sh EXTRAS      e.g. dev; reads PYTHON, PIP_FLAGS and VENV from the environment
set -euo pipefail
cd "$(dirname "$0")/.."

extra=${1:?give the extras, e.g. dev or text,plot}
venv=${VENV:-.venv}
need_mb=3000 # the environment takes about 1.5 GB, and pip needs as much again to unpack

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
    say "PYTHON=$PYTHON was not found"
  elif [ -n "${PYTHON:-}" ]; then
    say "PYTHON=$PYTHON must be Python 3.10 or later, got $("$PYTHON" --version 2>&1 || true)"
  elif command -v python3 >/dev/null; then
    say "python3 must be 3.10 or later, got $(python3 --version 2>&1)"
  else
    say "python3 was not found; on Debian or Ubuntu: sudo apt install python3 python3-venv"
  fi
  stop "give one with: make test PYTHON=/path/to/python3"
}

make_venv() {
  local python free_mb
  python=$(find_python)
  free_mb=$(df -Pm . | awk 'NR == 2 {print $4}')
  if [ "$free_mb" -lt "$need_mb" ]; then
    stop "need about $need_mb MB of disk space, got $free_mb MB"
  fi
  if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    say "$python has no venv module"
    stop "on Debian or Ubuntu: sudo apt install python3-venv (or python$("$python" -c \
      'import sys; print("%d.%d" % sys.version_info[:2])')-venv)"
  fi
  say "creating $venv with $("$python" --version) ($python)"
  rm -rf "$venv"
  "$python" -m venv "$venv" || stop "could not create $venv (see above)"
}

explain() { # prints the likely cause of a pip error
  local log=$1
  if grep -q 'No space left on device' "$log"; then
    stop "the disk is full: $(df -Ph . | awk 'NR == 2 {print $4}') free here, and pip also writes to ${TMPDIR:-/tmp}"
  elif grep -qE 'name resolution|Failed to resolve|NewConnectionError|Network is unreachable|ConnectTimeout|ProxyError|getaddrinfo' "$log"; then
    stop "pip cannot reach the package index: check the network and proxy settings"
  elif grep -q 'No matching distribution found for torch' "$log"; then
    stop "no torch for $("$venv/bin/python" --version) on $(uname -sm); use another Python: make test PYTHON=python3.12"
  fi
  stop "pip failed (its output is above and in $log)"
}

install() { # pip install; the output goes to the screen and to a log for explain
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
# torch first and pinned: the newest build would bring gigabytes of CUDA on Linux.
install 'torch==2.13.0'
# Build inside this environment, so that the C++ kernels are built against its torch.
install hatchling editables
install --no-build-isolation -e ".[$extra]"

touch "$venv/.ready-text"
if [ "$extra" = dev ]; then touch "$venv/.ready-dev"; fi
say "$venv is ready"
