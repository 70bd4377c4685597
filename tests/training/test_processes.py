"""Two processes that share every batch train what one process trains, and only one of them writes files."""

# ruff: noqa: E402 - the imports below need the extra

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra [export]")
pytest.importorskip("transformers", reason="training needs the extra [export]")
pytest.importorskip("accelerate", reason="training needs the extra [export]")

from safetensors.torch import load_file, save_file
from toy import write_data, write_encoder

from bebert_export.data.batches import EncodedExamples, TrainingSet
from bebert_export.distributed import add_up, is_main, processes
from bebert_export.student.bert import Student, StudentConfig
from bebert_export.training.distillation import Distillation, _guide, train_student
from bebert_export.training.loop import Watcher, predict
from bebert_export.training.loss import Objective, Weighting
from bebert_export.training.schedule import Schedule

HELPERS = Path(__file__).parents[1] / "helpers"
SIZES = {"vocab_size": 40, "hidden_size": 16, "attention_size": 16, "num_heads": 2, "intermediate_size": 32}
REST = {"num_layers": 1, "max_positions": 16, "dropout": 0.0}


def trained():
    """Gradients of batches of 5 and of 1, predictions, and the weights after a short training."""
    random = np.random.default_rng(0)
    ids = [random.integers(1, 40, length) for length in random.integers(3, 9, 33)]
    data = TrainingSet(EncodedExamples(ids, [np.zeros_like(row) for row in ids]), random.integers(0, 2, 33), 2)
    weights = random.random(33)
    torch.manual_seed(1)
    teacher, model = (Student(StudentConfig("float", 32, **SIZES, **REST)) for _ in range(2))
    logits = predict(teacher, data.encoded, 2)
    distillation = Distillation("two-stage", logits, teacher.eval())
    result = {"logits": torch.from_numpy(logits)}
    for case, only_guide, index in (("both", False, np.arange(5)), ("guide", True, np.arange(5)), ("one", False, [7])):
        guide = _guide(distillation, "float32")
        objective = Objective(data, Weighting(weights), logits, 0.5, guide, only_guide)
        model.train().zero_grad()
        loss = objective.loss(model, np.array(index), "float32")
        if loss is not None:
            loss.backward()
        total, voted = add_up(model.parameters(), loss, is_main())
        assert voted
        result[f"{case} loss"] = torch.tensor(total)
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                result[f"{case} {name}"] = parameter.grad.clone()
    student = Student(StudentConfig("ternary", 4, **SIZES, **REST))
    schedule = Schedule(1.0, 4, 1e-3)
    fitted = train_student(
        student, data, schedule, distillation=distillation, seed=3, watcher=Watcher(), weighting=Weighting(weights)
    )
    return result | {"fitted": torch.tensor(fitted.loss)}


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="processes on CPUs talk by gloo, missing here")
def test_two_processes_train_what_one_trains(tmp_path):
    """Only float32 rounding is left, for sums of gradients come in another order."""
    write_encoder(tmp_path / "encoder")
    write_data(tmp_path / "train.tsv", 120, 1)
    write_data(tmp_path / "dev.tsv", 20, 2)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    # The processes run this file as a script: they have no pytest to add the helpers to their path.
    path = os.pathsep.join([str(HELPERS), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "BEBERT_BACKEND": "reference", "PYTHONPATH": path}
    done = subprocess.run(
        [*launch, __file__, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = trained(), load_file(tmp_path / "two.safetensors")
    assert one.keys() == two.keys()  # a weight that the loss does not depend on has no gradient, not one of zeros
    assert "both classifier.weight" in one and "guide classifier.weight" not in one
    fitted = one.pop("fitted").item(), two.pop("fitted").item()
    assert fitted[0] == pytest.approx(fitted[1], rel=0.02)  # AdamW makes much of small differences
    for name, tensor in one.items():
        assert torch.allclose(tensor, two[name], rtol=1e-4, atol=1e-6), name
    # The whole command, with snapshots of both: one set of files, every step logged once.
    run = tmp_path / "run"
    assert json.loads((run / "results.json").read_text())["members"][0]["steps"] == 4
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["stage"] for line in lines].count("member 0") == 1
    assert (run / "model" / "model.safetensors").is_file()
    assert done.stdout.count("figures in") == 1


if __name__ == "__main__":  # in each of the two processes
    folder = sys.argv[1]
    assert processes().num_processes == 2
    tensors = trained()
    if is_main():
        save_file(tensors, f"{folder}/two.safetensors")
    sys.argv[1:] = ["train", "--init", f"{folder}/encoder", "--out", f"{folder}/run"]
    sys.argv += ["--members", "1", "--epochs", "1", "--teacher-epochs", "3", "--learning-rate", "5e-3"]
    sys.argv += ["--teacher-learning-rate", "5e-3", "--max-length", "16", "--train", f"{folder}/train.tsv"]
    sys.argv += ["--dev", f"{folder}/dev.tsv", "--threads", "2", "--snapshot-minutes", "0.0001"]
    from bebert_infer.cli.main import main

    main()
