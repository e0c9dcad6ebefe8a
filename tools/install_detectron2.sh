#!/usr/bin/env bash
# Builds detectron2, for the CPU or (FORCE_CUDA=1) for GPUs, beside the PyTorch of a virtual environment: `make detectron2`.
#
#     tools/install_detectron2.sh [.venv/bin/python] [CHECKOUT]
#
# It is on no package index: CHECKOUT is a folder with its sources; without one they are cloned. The build takes about
# eight minutes on two cores. The sources stay as they are, and what is built is kept in ~/.cache/sempre, one for each
# Python and PyTorch.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${1:-.venv/bin/python}
checkout=${2:-}
repository=https://github.com/facebookresearch/detectron2

fail() {
    echo "error: $*" >&2
    exit 2
}

import_detectron2() {
    "$python" -c 'from sempre.errors import run_command
from sempre.detectron2.library import import_detectron2
run_command(lambda: import_detectron2() and None)'
}

"$python" -c 'import torch, timm' 2>/dev/null || fail "$python has no PyTorch and timm: run \`pip install -e '.[train]'\` there first"
if import_detectron2 2>/dev/null; then
    echo "detectron2 is already installed and works"
    exit 0
fi
command -v c++ >/dev/null || fail "there is no C++ compiler: have g++ (on Debian) installed, then try again"

build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
if [ -n "$checkout" ]; then
    [ -f "$checkout/detectron2/__init__.py" ] || fail "$checkout holds no sources of detectron2: give SOURCE=path of a checkout of $repository"
    # A copy, for the build writes beside the sources.
    mkdir "$build/detectron2"
    tar -C "$checkout" --exclude=.git --exclude=build -cf - . | tar -C "$build/detectron2" -xf -
else
    git clone --quiet --depth 1 "$repository" "$build/detectron2" ||
        fail "$repository cannot be cloned (above): clone it where there is a network, copy it here, and run \`make detectron2 SOURCE=path\`"
fi

tag=$("$python" -c 'import platform, sys, torch; print(f"{sys.implementation.cache_tag}-torch{torch.__version__}-{platform.machine()}")')
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sempre/detectron2/$tag
mkdir -p "$cache"
if ! compgen -G "$cache/*.whl" >/dev/null; then
    echo "building detectron2 for $tag: about eight minutes on two cores, the log is $cache/build.log"
    # A virtual environment of its own, which sees the other's PyTorch: the build needs a setuptools that knows
    # bdist_wheel, its use does not.
    "$python" -m venv "$build/venv"
    "$python" -c 'import os, torch; print(os.path.dirname(os.path.dirname(torch.__file__)))' \
        >"$("$build/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/torch.pth"
    "$build/venv/bin/pip" install --quiet 'setuptools>=75,<81' wheel ninja ||
        fail "pip cannot install setuptools, wheel and ninja (above): check the network or pip's index, then try again"
    PATH=$build/venv/bin:$PATH FORCE_CUDA=${FORCE_CUDA:-0} MAX_JOBS=${MAX_JOBS:-$(nproc)} \
        "$build/venv/bin/pip" wheel --verbose --no-build-isolation --no-deps --no-cache-dir \
        --wheel-dir "$build/wheels" "$build/detectron2" >"$cache/build.log" 2>&1 ||
        fail "detectron2 did not build: $(grep -m1 -iE '(^|[^-])error[: ]' "$cache/build.log" || true) (see $cache/build.log)"
    mv "$build"/wheels/*.whl "$cache/"
fi
"$python" -m pip install --quiet "$cache"/*.whl ||
    fail "pip cannot install what detectron2 needs (above): check the network or pip's index, then try again"
import_detectron2 || fail "detectron2 was built but cannot be imported: remove $cache and try again"
echo "detectron2 is installed"
