#!/usr/bin/env bash
# setup.sh run|test|browser|lint|fuzz|bench: whatever that target needs and this Debian lacks.
# Says what it is about to install, installs it with apt, and makes the Python environment of the
# integration tests. With everything in place it takes some ten milliseconds and prints nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

build=(gcc make pkg-config libc6-dev libevent-dev libnghttp2-dev libssl-dev libjansson-dev
       libcurl4-openssl-dev libconfuse-dev libxxhash-dev libzstd-dev zlib1g-dev libdnnl-dev
       libhiredis-dev libjs-dygraphs libncurses-dev)
tests=(libcmocka-dev libonnx-testdata python3 python3-venv curl nghttp2-client openssl
       redis-server redis-sentinel)
declare -A more=(
    [run]=''
    [test]="${tests[*]}"
    [lint]='python3 git clang clang-format clang-tidy cppcheck'
    [browser]='chromium fonts-liberation'
    [fuzz]='clang libclang-rt-dev'
    [bench]='python3 nghttp2-client nghttp2-proxy nginx-light haproxy openssl valgrind'
)
goal=${1:-}
if [[ -z ${more[$goal]+x} ]]; then
    echo "usage: tools/setup.sh ${!more[*]}" >&2
    exit 2
fi
read -ra wanted <<<"${build[*]} ${more[$goal]}"

# A program found in PATH will do, whichever package it came from.
declare -A program=([gcc]=gcc [make]=make [git]=git [curl]=curl [openssl]=openssl [clang]=clang
    [clang-format]=clang-format [clang-tidy]=clang-tidy [cppcheck]=cppcheck [valgrind]=valgrind
    [nginx-light]=/usr/sbin/nginx [nghttp2-proxy]=nghttpx [nghttp2-client]=h2load [haproxy]=haproxy [chromium]=chromium
    [pkg-config]=pkg-config)

have() {
    local installed='install ok installed'
    [[ -n ${program[$1]:-} ]] && command -v "${program[$1]}" >/dev/null && return 0
    [[ $(dpkg-query -W -f '${Status}' "$1" 2>/dev/null) == "$installed" ]]
}

install_packages() {
    local missing=() as_root=()
    for package in "${wanted[@]}"; do
        have "$package" || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    ((EUID == 0)) || as_root=(sudo)
    echo "setup: installing with apt: ${missing[*]}"
    if ((EUID)) && ! command -v sudo >/dev/null; then
        echo "setup: neither root nor sudo: install the packages above, then run make $goal again" >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" \
        </dev/null | grep -E '^(Setting up|E:)' || true
    for package in "${missing[@]}"; do
        have "$package" || { echo "setup: apt did not install $package" >&2; exit 1; }
    done
}

# The environment is made again when the list of packages changes.
make_environment() {
    local list=tests/integration/requirements.txt python=python3
    cmp -s "$list" .venv/installed && return 0
    [[ -x /usr/bin/python3 ]] && python=/usr/bin/python3
    echo "setup: Python environment .venv: $(grep -v '^#' "$list" | tr '\n' ' ')"
    rm -rf .venv
    "$python" -m venv .venv
    .venv/bin/python -m pip install -q --disable-pip-version-check --prefer-binary -r "$list"
    cp "$list" .venv/installed
}

if command -v dpkg-query >/dev/null; then
    install_packages
else
    echo "setup: not a Debian system; needed here are: ${wanted[*]}"
fi
[[ $goal != test ]] || make_environment
