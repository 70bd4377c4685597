"""Records of cells that nobody trained, and a plan of cells, for tests of the pages that are made of them."""


def made_up(base, task, seed, *, distill="none", full=90.0, scores=(80.0, 82.0), seconds=(10.0, 20.0), **more):
    """A record whose ensembles of 1, 2, … members score `scores`; their noise deviates by 1, that of members by 2."""
    noise = [{"mean": 80.0, "std": 2.0} for _ in scores]
    rows = [{"mean": 80.0, "std": 2.0}] + [{"mean": 80.0, "std": 1.0}] * (len(scores) - 1)
    return {
        "cell": {"encoder": "toy", "task": task, "base": base, "distill": distill, "seed": seed},
        "options": {"members": len(scores)},
        "data": {"train": {"file": "train_subset.tsv" if task == "QQP" else "train.tsv"}, "dev": {"file": "dev.tsv"}},
        "full_precision": full,
        "members": [scores[0]] * len(scores),
        "alphas": [1.0] * len(scores),
        "ensembles": {rule: list(scores) for rule in ("vote", "logits", "probabilities")},
        "noise": [
            {"sigma": sigma, "seeds": 30, "members": noise, "ensembles": {"probabilities": rows}}
            for sigma in (0.1, 0.01)
        ],
        "seconds": {"members": list(seconds), "students": 5.0 + sum(seconds), "whole_run": 40.0},
        "bytes": {"model": 100, "full_precision": 1000},
    } | more


PLAN = {
    "report": {"members": 2, "rule": "probabilities", "regression_rule": "median", "sizes": [1, 2, 3]},
    "cells": [
        {"encoder": ["toy"], "task": ["CoLA", "QQP", "RTE"], "base": bases, "distill": distill, "seed": [1, 2]}
        for bases, distill in ((["binarybert", "bibert", "bit"], ["none"]), (["binarybert"], ["two-stage"]))
    ],
    "settings": [{"members": 2}],
}
RECORDS = [
    made_up("binarybert", "CoLA", 1, scores=(80.0, 82.0), full=83.0),
    made_up("binarybert", "CoLA", 2, scores=(80.0, 86.0), full=85.0),
    made_up("binarybert", "QQP", 1, scores=(70.0, 70.0), full=75.0),
    made_up("binarybert", "QQP", 2, scores=(70.0, 74.0), full=75.0),
    made_up("binarybert", "CoLA", 1, distill="two-stage", seconds=(30.0, 35.0)),
    made_up("bibert", "CoLA", 1, scores=(50.0, 60.0)),
    made_up("bit", "CoLA", 1, scores=(70.0, 81.0)),
    made_up("binarybert", "RTE", 1, scores=(50.0,), seconds=(10.0,)),  # asked for fewer members than the page shows
]
