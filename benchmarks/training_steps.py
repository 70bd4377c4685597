"""A training step of two checkouts of this repository, in turn: milliseconds and ratios.

    python benchmarks/training_steps.py OLD NEW [--base bwn] [--hidden] [--threads 2] [--rounds 15] [--no-record]

OLD and NEW are folders, for example of `git worktree add OLD COMMIT`. Each trains in a process of its own that stays:
a student with the geometry of MiniLM-L6 and random weights, 4-bit activations and shared steps, on batches of 32 texts
of 6 to 33 tokens, by soft labels and, with --hidden, by the hidden states of a teacher of the same size too. A round is
six steps in one and then six in the other. The ratio is the median of the rounds' ratios, new by old: below 1, NEW is
faster.
"""

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

from checkouts import answer, head, start
from record import OtherLoad, write_record

CHILD = """
import sys, time
import torch
from bebert_export.student.bert import Student, StudentConfig
from bebert_export.student.schemes import TEACHER, find_scheme, student_from_full_precision
from bebert_export.training.distillation_losses import hidden_loss
from bebert_export.training.optimizer import adamw
from bebert_export.training.schedule import Schedule
try:
    from bebert_export.training.allocator import keep_freed_memory
    keep_freed_memory()
except ImportError:  # an older checkout
    pass

base, hidden, threads = sys.argv[1], sys.argv[2] == "hidden", int(sys.argv[3])
torch.set_num_threads(threads)
torch.manual_seed(0)
sizes = dict(hidden_size=384, attention_size=384, num_heads=12, intermediate_size=1536, num_layers=6)
state = Student(StudentConfig("float", 32, vocab_size=12000, max_positions=64, num_labels=2, **sizes)).state_dict()
form = dict(layer_norm_eps=1e-12, dropout=0.0)
teacher = student_from_full_precision(state, 12, TEACHER, **form).eval()
student = student_from_full_precision(state, 12, find_scheme("1-1-4", base), shared_steps=True, **form).train()
optimizer = adamw(student, Schedule(1, 32, 2e-4))
batches = []
for tokens in (6, 9, 12, 16, 24, 33):
    ids = torch.randint(1000, 12000, (32, tokens))
    batches.append(dict(input_ids=ids, attention_mask=torch.ones_like(ids)))
targets = [teacher(**batch).logits.detach().softmax(-1) for batch in batches]

def step(batch, target):
    answer = student(**batch)
    loss = -(target * answer.logits.log_softmax(-1)).sum(-1).mean()
    if hidden:
        with torch.no_grad():
            taught = teacher(**batch, details=True)
        loss = loss + hidden_loss(answer.hidden, taught.hidden)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)

for line in sys.stdin:
    started = time.perf_counter()
    for batch, target in zip(batches, targets):
        step(batch, target)
    print(1e3 * (time.perf_counter() - started) / len(batches), flush=True)
"""


def step_ms(process: subprocess.Popen[str]) -> float:
    """Milliseconds a step of one more round."""
    return float(answer(process, ""))


def main() -> None:
    """Run the rounds, print both medians and the ratio, append a record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--base", default="bwn")
    parser.add_argument("--hidden", action="store_true", help="learn from hidden states too")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-record", action="store_true")
    arguments = parser.parse_args()
    load = OtherLoad()
    folders = arguments.old.resolve(), arguments.new.resolve()
    options = [arguments.base, "hidden" if arguments.hidden else "labels", str(arguments.threads)]
    olds, news = (start(folder, CHILD, options) for folder in folders)
    for process in (olds, news):
        step_ms(process)  # the first round touches all memory and sets the learned steps
    pairs = [(step_ms(olds), step_ms(news)) for _ in range(arguments.rounds)]
    for process in (olds, news):
        process.kill()
        process.wait()  # so that its time does not count as that of others
    cores = load.cores()
    ratios = sorted(new / old for old, new in pairs)
    old_ms, new_ms = (round(statistics.median(times), 1) for times in zip(*pairs, strict=True))
    ratio = round(statistics.median(ratios), 3)
    sys.stdout.write(f"a step: {old_ms} ms, {new_ms} ms, new by old {ratio} ({ratios[0]:.3f} to {ratios[-1]:.3f})\n")
    if not arguments.no_record:
        commits = {"old": head(folders[0]), "new": head(folders[1])}
        settings = {name: vars(arguments)[name] for name in ("base", "hidden", "threads", "rounds")}
        numbers = {"old_ms": old_ms, "new_ms": new_ms, "ratio": ratio, "ratios": [round(x, 3) for x in ratios]}
        write_record("training_steps", commits | settings | numbers | {"cores_of_others": cores})


if __name__ == "__main__":
    main()
