"""Records of earlier releases stay comparable: what they name exists under today's name, or is known to be gone."""

import copy
import sys
from pathlib import Path

import numba
import pytest
from bench_runs import bench_run

if numba.config.DISABLE_JIT:
    pytest.skip("compiled kernels are measured", allow_module_level=True)

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))  # scripts find their neighbours so

from kernel_bench.case import SIZES
from kernel_bench.cases import all_cases
from record import read_records

from bebert_infer.bench.compare import compare
from bebert_infer.bench.records import parse_run, read_run
from bebert_kernels.abi.stage import STAGES
from bebert_kernels.tuning.autotune import PRODUCTS

# Of the path that ran before every model was a program: NumPy functions, compiled one by one.
GONE = {
    *("pack_signs", "gelu_signs", "quantize", "pack_codes", "scale_add", "layer_norm", "embed", "relu", "gelu", "tanh"),
    *("softmax", "dense", "score_bits", "bit_context", "code_scores", "code_context", "code_weights"),
    *("xnor_gemm, signs from bits", "xnor_gemm, signs with zeros from bits", "and_gemm, 4-bit codes from planes"),
    "code_gemm, 4-bit codes from bytes",
}


@pytest.mark.parametrize(
    "record", read_records("kernels"), ids=lambda record: f"{record['date']}-{record['commit'][:7]}"
)
def test_a_kernel_of_a_record_has_a_case_of_today(record):
    today = {case.name for case in all_cases(SIZES["bert"])}
    then = {row["kernel"] for row in record["kernels"]}
    assert len(then) > 30 and len(then & today) > 15
    assert not then - today - GONE, "write its new name into bebert_infer/bench/renamed.py"


def test_a_stage_of_an_estimate_is_a_stage_of_today():
    shares = [record["share"] for record in read_records("arm") if "share" in record]
    assert shares
    known = {*STAGES, "program"}
    assert not {stage for share in shares for stage in share} - known


def test_products_of_an_earlier_run_have_the_names_of_today():
    run = read_run(BENCHMARKS / "results" / "bench.jsonl")
    chosen = {words.rpartition(", ")[2] for words in run.machine.products.values()}  # "popcount to 3 rows, bitsliced"
    assert chosen and chosen <= {product.name for product in PRODUCTS}
    old = bench_run()
    new = copy.deepcopy(old)
    old["machine"]["products"], new["machine"]["products"] = {"768 × 768": "sliced"}, {"768 × 768": "bitsliced"}
    assert not [said for said in compare(parse_run(old), parse_run(new)).differences if "product" in said]
