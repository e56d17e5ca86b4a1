#!/bin/sh
# Set up the emulated device of config/profile/arm64_emulated.yaml: Debian's arm64 Python, and the arm64
# wheels of numpy and onnxruntime at the versions that requirements.lock names. Needs Debian, its package
# qemu-user-static, and .venv (`make .venv/ready`); changes nothing outside the folder that it fills.
#
#     tools/arm64_device.sh [package of another engine ..]
#
# E.g. ai-edge-litert for arm64_litert.yaml, openvino for arm64_openvino.yaml; without what they need besides, which their
# engines do not. FOLDER names another place than .edgeward/devices/arm64.
set -eu

folder=${FOLDER:-.edgeward/devices/arm64}
uv=.venv/bin/uv
emulator="qemu-aarch64-static -cpu cortex-a76"
features="fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"

test -x "$uv" || { echo "$uv is missing: run \`make .venv/ready\`" >&2; exit 1; }
command -v "${emulator%% *}" >/dev/null || {
    echo "${emulator%% *} is missing: install Debian's package qemu-user-static" >&2
    exit 1
}

mkdir -p "$folder"
folder=$(realpath "$folder")
apt="$folder/apt"
mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$folder/root"
: >"$apt/status" # as on a machine on which nothing is installed

# An apt of its own, which takes this machine's sources for another architecture.
private_apt() {
    apt-get -qq \
        -o APT::Architecture=arm64 -o APT::Architectures=arm64 \
        -o Dir::State="$apt" -o Dir::State::lists="$apt/lists" -o Dir::State::status="$apt/status" \
        -o Dir::Cache="$apt" -o Dir::Cache::archives="$apt/archives" \
        -o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=1 "$@"
}

private_apt update
private_apt install --yes --no-install-recommends --download-only python3 libstdc++6
for package in "$apt"/archives/*.deb; do
    dpkg-deb --extract "$package" "$folder/root"
done
test -e "$folder/root/lib" || ln -s usr/lib "$folder/root/lib" # base-files makes it when installed

# QEMU takes a file of this folder for one of the machine's, so that the engine, which asks what kind of
# core it runs on, does not read of this machine's (it would crash): the Cortex-A76 of a Raspberry Pi 5.
mkdir -p "$folder/root/proc"
core=0
while [ "$core" -lt "$(getconf _NPROCESSORS_CONF)" ]; do
    printf '%s\t: %s\n' processor "$core" Features "$features" "CPU implementer" 0x41 \
        "CPU architecture" 8 "CPU variant" 0x4 "CPU part" 0xd0b "CPU revision" 1
    echo
    core=$((core + 1))
done >"$folder/root/proc/cpuinfo"

version=$($emulator -L "$folder/root" "$folder/root/usr/bin/python3" \
    -c 'import platform; print(platform.python_version())')
wheels() {
    "$uv" pip install --quiet --target "$folder/packages" --only-binary :all: --upgrade \
        --python-platform aarch64-manylinux_2_35 --python-version "$version" --constraint requirements.lock "$@"
}
wheels numpy onnxruntime
test $# -eq 0 || wheels --no-deps "$@"
rm -rf "$apt"
echo "$folder: Python $version and $(ls "$folder/packages" | grep -c dist-info) packages for aarch64"
