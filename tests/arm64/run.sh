#!/bin/sh
# Kernels, a golden model of each family and the demo model on an emulated Raspberry Pi 4 and 5.
#
#   sh tests/arm64/run.sh PYTHON [short]     PYTHON has this project's requirements installed
#
# short: what CI runs, and it passes with a line that says why where no aarch64 can be set up. Kernels are compiled by
# PYTHON for both boards (cross.py) and kept in .arm64/kernels; nothing is compiled again while sources stay the same.
set -eu

python=$1
form=${2:-full}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cd "$root"

code=0
sh tests/arm64/setup.sh "$python" || code=$?
if [ $code -ne 0 ]; then
    if [ $code -eq 3 ] && [ "$form" = short ]; then
        echo "arm64: skipped, see above"
        exit 0
    fi
    exit $code
fi

tests="tests/arm64/suite.py"
if [ "$form" = full ]; then
    tests="$tests tests/runtime/test_frozen_artifacts.py tests/arithmetic/test_sliced.py tests/arithmetic/test_attend.py"
fi
mkdir -p -m 700 .arm64/kernels
export BEBERT_CACHE_DIR="$root/.arm64/kernels" BEBERT_QUIET=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
paths="$root:$root/kernels:$root/tests/helpers"

on_board() {
    features=$(BOARD=$1 PYTHONPATH=.arm64/wheels .arm64/python -c \
        'import llvmlite.binding as llvm; print(llvm.get_host_cpu_features().flatten())')
    PYTHONPATH="$paths" BEBERT_PRODUCT=bitsliced "$python" tests/arm64/cross.py "$1" "$features"
    # shellcheck disable=SC2086  # a list of files
    BOARD=$1 PYTHONPATH="$paths:$root/.arm64/wheels" .arm64/python -m pytest -q -p no:cacheprovider \
        -o addopts=--import-mode=importlib $tests
}

# Both boards at once, a core each.
on_board cortex-a72 >.arm64/cortex-a72.log 2>&1 &
first=$!
code=0
on_board cortex-a76 >.arm64/cortex-a76.log 2>&1 || code=1
wait $first || code=1
for board in cortex-a72 cortex-a76; do
    echo "arm64: $board"
    tail -n 40 ".arm64/$board.log"
done
exit $code
