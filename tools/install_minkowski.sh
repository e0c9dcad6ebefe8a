#!/usr/bin/env bash
# Installs MinkowskiEngine 0.5.4, built for the CPU, beside the PyTorch of a virtual environment: `make minkowski`.
#
#     tools/install_minkowski.sh [.venv/bin/python]
#
# The build takes 5 to 15 minutes on two cores. Its wheel is kept in ~/.cache/sempre, one for each Python and PyTorch,
# so that it is built once. As root on Debian and its kin the compiler and OpenBLAS are installed where they lack.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${1:-.venv/bin/python}
version=0.5.4

fail() {
    echo "error: $*" >&2
    exit 2
}

import_engine() {
    "$python" -c 'from sempre.errors import run_command
from sempre.models.minkowski import import_minkowski
run_command(lambda: import_minkowski() and None)'
}

"$python" -c 'import torch, timm' 2>/dev/null || fail "$python has no PyTorch and timm: run \`pip install -e '.[train]'\` there first"
if import_engine 2>/dev/null; then
    echo "MinkowskiEngine is already installed and works"
    exit 0
fi

links_openblas() {
    echo 'int main() {}' | c++ -x c++ - -lopenblas -o /dev/null 2>/dev/null
}
if ! links_openblas; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        apt-get install -y -qq g++ libopenblas-dev python3-dev
    fi
    links_openblas || fail "c++ or OpenBLAS is missing: have g++ and libopenblas-dev (on Debian) installed, then try again"
fi

build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
tag=$("$python" -c 'import platform, sys, torch; print(f"{sys.implementation.cache_tag}-torch{torch.__version__}-{platform.machine()}")')
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sempre/minkowski/$tag
mkdir -p "$cache"
if ! compgen -G "$cache/*.whl" >/dev/null; then
    echo "building MinkowskiEngine $version for $tag: 5 to 15 minutes on two cores, the log is $cache/build.log"
    # A virtual environment of its own, which sees the other's PyTorch: the build needs an older setuptools and wheel and
    # ninja, its use none of them.
    "$python" -m venv "$build/venv"
    "$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
        >"$("$build/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/torch.pth"
    "$build/venv/bin/pip" install --quiet 'setuptools>=75,<81' wheel ninja ||
        fail "pip cannot install setuptools, wheel and ninja (above): check the network or pip's index, then try again"
    # Its setup.py calls `pip` and ninja by name. BLAS is named, for numpy.distutils, which would find it, is gone from
    # Python 3.12 on. Without a visible GPU it builds for the CPU; its CUDA sources are older than today's CUDA.
    PATH=$build/venv/bin:$PATH CUDA_VISIBLE_DEVICES= MAX_JOBS=${MAX_JOBS:-$(nproc)} \
        "$build/venv/bin/pip" wheel --verbose --use-pep517 --no-build-isolation --no-deps --no-cache-dir \
        --config-settings=--global-option=--blas=openblas \
        --wheel-dir "$build/wheels" "MinkowskiEngine==$version" >"$cache/build.log" 2>&1 ||
        fail "MinkowskiEngine did not build: $(grep -m1 -iE '(^|[^-])error[: ]' "$cache/build.log" || true) (see $cache/build.log)"
    mv "$build"/wheels/*.whl "$cache/"
fi
"$python" -m pip install --quiet --force-reinstall --no-deps "$cache"/*.whl
import_engine || fail "MinkowskiEngine was built but cannot be imported: remove $cache and try again"
echo "MinkowskiEngine $version is installed"
