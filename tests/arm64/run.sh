#!/bin/sh
# What the aarch64 wheel computes on an emulated Raspberry Pi 4 and 5, where there is neither Numba nor a compiler.
#
#   sh tests/arm64/run.sh PYTHON [short|full] [WHEEL]     PYTHON can compile kernels (extra dev)
#
# short: what CI runs, and it passes with a line that says why where no aarch64 can be set up. full: more models and
# shapes, and how long a first answer takes. install.py says what is installed where no WHEEL is given.
set -eu

python=$1
form=${2:-full}
wheel=${3:-}
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
PYTHONPATH="$root/kernels" "$python" tests/arm64/install.py .arm64/site ${wheel:+"$wheel"}

tests="tests/arm64/suite.py"
if [ "$form" = full ]; then
    tests="$tests tests/runtime/test_frozen_artifacts.py tests/runtime/test_native.py tests/arithmetic/test_sliced.py"
fi
mkdir -p -m 700 .arm64/cache
unset BEBERT_ISA BEBERT_KERNELS BEBERT_PRODUCT PYTHONDONTWRITEBYTECODE
export BEBERT_CACHE_DIR="$root/.arm64/cache" OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# Safe path: the packages of the checkout, which lie in the working folder, must not come before those installed.
export PYTHONPATH="$root/.arm64/site:$root/.arm64/wheels" PYTHONSAFEPATH=1

on_board() {
    # shellcheck disable=SC2086  # a list of files
    BOARD=$1 .arm64/python -m pytest -q -p no:cacheprovider -o addopts=--import-mode=importlib $tests
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
if [ "$form" = full ]; then
    for board in cortex-a72 cortex-a76; do
        PYTHONPATH= "$python" tests/arm64/first_answer.py $board "$PYTHONPATH"
    done
fi
exit $code
