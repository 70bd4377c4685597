#!/bin/sh
# Set up what runs the project's aarch64 code on another machine: an emulator, Debian's arm64 Python, aarch64 wheels.
#
#   sh tests/arm64/setup.sh PYTHON [jit]    PYTHON has pip; it need not be of the same version
#
# What is installed is what the project's wheel requires, and what its tests do: no Numba. With `jit` that too, in a
# folder of its own, for benchmarks/arm.
#
# Everything goes into .arm64/ beside the Makefile and is kept there. No root is needed: packages are downloaded with
# apt-get, from where this machine takes its own, into a state of their own, and unpacked. Exit code 3 and one line say
# why it cannot be done here.
set -eu

python=$1
source=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$source/../.." && pwd)
home="$root/.arm64"
packages="click msgspec numpy rich safetensors tokenizers pytest hypothesis"

cannot() {
    echo "no aarch64 on this machine: $1" >&2
    exit 3
}

# apt-get for an empty arm64 machine, whose state is a folder; with -o APT::Architecture=... for this machine's own.
apt() {
    APT_CONFIG="$home/apt/apt.conf" apt-get -qq "$@" >"$home/apt/log" 2>&1
}

mkdir -p "$home/apt/lists/partial" "$home/apt/archives/partial"
cd "$home"
chmod 700 .

for tool in apt-get dpkg-deb; do
    command -v $tool >/dev/null || cannot "$tool is missing, this takes a Debian system"
done

cat >apt/apt.conf <<END
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Sandbox::User "";
APT::Install-Recommends "false";
Dir::State "$home/apt";
Dir::State::status "$home/apt/status";
Dir::State::lists "$home/apt/lists";
Dir::Cache "$home/apt";
Dir::Cache::archives "$home/apt/archives";
END
: >apt/status

emulator=$(command -v qemu-aarch64 || command -v qemu-aarch64-static || true)
if [ -z "$emulator" ]; then
    emulator="$home/qemu/usr/bin/qemu-aarch64-static"
    if [ ! -x "$emulator" ]; then
        (cd apt && apt-get -qq download qemu-user-static >log 2>&1) ||
            cannot "qemu-aarch64 is missing and cannot be downloaded: apt-get update && apt-get install qemu-user"
        rm -rf qemu && mkdir qemu
        dpkg-deb -x apt/qemu-user-static_*.deb qemu || cannot "the package of the emulator cannot be unpacked"
    fi
fi

if [ ! -e root/.complete ]; then
    apt update || true # a source without arm64 packages is no fault: what is missing shows in the next step
    apt --yes --download-only install python3 libstdc++6 ||
        cannot "Debian's arm64 packages cannot be downloaded: $(tail -n 1 apt/log)"
    rm -rf root && mkdir root
    for package in apt/archives/*.deb; do
        dpkg-deb -x "$package" root || cannot "$package cannot be unpacked"
    done
    touch root/.complete
fi
for interpreter in root/usr/bin/python3.*; do
    version=${interpreter##*/python}
done

# wheels FOLDER PACKAGE...: of the versions that `make test` uses.
wheels() {
    folder=$1
    shift
    stamp=$folder/.complete-$version-$(echo "$@" | cat - "$root/constraints.txt" | cksum | cut -d ' ' -f 1)
    [ ! -e "$stamp" ] || return 0
    rm -rf "$folder"
    platforms=
    for tag in _2_28 _2_27 _2_26 _2_24 _2_17 2014; do
        platforms="$platforms --platform manylinux${tag}_aarch64"
    done
    # shellcheck disable=SC2086  # a list of words
    "$python" -m pip install --quiet --disable-pip-version-check --target "$folder" $platforms --implementation cp \
        --python-version "$version" --only-binary=:all: --constraint "$root/constraints.txt" "$@" \
        >pip.log 2>&1 || cannot "aarch64 wheels cannot be downloaded: $(grep ERROR pip.log | tail -n 1)"
    touch "$stamp"
}
# shellcheck disable=SC2086  # a list of words
wheels wheels $packages
if [ "${2:-}" = jit ]; then
    wheels jit numba
fi

# A board is this root with its own /proc/cpuinfo: `bebert doctor` names the CPU from there, and LLVM, so Numba, takes
# its features. The product asks the C library, so it must find the same where there is none: BOARD_FILES=root.
for board in cortex-a72 cortex-a76; do
    mkdir -p "$board/proc"
    cp "$source/$board.cpuinfo" "$board/proc/cpuinfo"
    for folder in bin etc lib sbin usr var; do
        ln -sfn "../root/$folder" "$board/$folder"
    done
done

# The interpreter: a file, so that sys.executable names something that a child process can start.
cat >python <<END
#!/bin/sh
# Written by tests/arm64/setup.sh: Python $version on an emulated \${BOARD:-cortex-a72}.
board=\${BOARD:-cortex-a72}
exec "$emulator" -0 "\$0" -cpu "\$board" -L "$home/\${BOARD_FILES:-\$board}" -E PYTHONHOME="$home/root/usr" \\
    "$home/root/usr/bin/python$version" "\$@"
END
chmod +x python
