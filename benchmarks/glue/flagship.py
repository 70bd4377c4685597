"""The table of the shipped model, from its folder and from the records that benchmarks/glue/shipped.py makes.

A new model in the folder brings its table with it: scores of the dev split are in its evidence, texts from elsewhere
and noise in records that carry the sha256 of its tensors. What neither has is shown as "–".
"""

import json
from math import sqrt
from pathlib import Path
from typing import Any

from glue.records import Cell
from glue.summary import Record, equal_members
from glue.tables import NONE, table
from record import ROOT

from bebert_infer.artifact.config import Config
from bebert_infer.artifact.folder import read_artifact
from bebert_infer.measure.cost import full_precision_bytes

MODEL = ROOT / "bebert_infer" / "demo_model"
SHIPPED = "shipped"  # name of the file of records
Scores = dict[str, Any]


def read_shipped(folder: Path) -> list[Record]:
    """All records of shipped.jsonl in a folder of records, oldest first; none if it is not there."""
    file = folder / f"{SHIPPED}.jsonl"
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.is_file() else []


def flagship(model: Path, records: list[Record], cells: dict[Cell, Record]) -> str:
    """Scores of full precision, first member and ensemble, then what the model is.

    records : of shipped.jsonl;  cells : records of the page, whose dev files tell the name of the model's own

    Raises ArtifactError for a folder that is no model.
    """
    artifact = read_artifact(model)
    config, alphas = artifact.config, artifact.tensors["alphas"].tolist()
    own = {record["name"]: record for record in records if record["tensors_sha256"] == config.tensors_sha256}
    columns = _columns(config, own, cells)
    count, rows = len(config.members), []
    for name, key in (("full precision", "full"), ("first member", "first"), (f"**ensemble of {count}**", "ensemble")):
        rows.append([name, *(_score(column[key]) for column in columns.values())])
    for name, one in (("gap to full precision", "full"), ("gain over the first member", "first")):
        rows.append([name, *(_difference(column["ensemble"], column[one]) for column in columns.values())])
    rows.append(["texts", *(f"{column['rows']:,}" for column in columns.values())])
    rows.append(["one standard error", *(_error(column) for column in columns.values())])
    scores = table(["score, times 100", *columns], rows)
    return f"{scores}\n{table(['', 'the model'], _facts(config, alphas, own), (0, 1))}"


def _columns(config: Config, own: dict[str, Record], cells: dict[Cell, Record]) -> dict[str, Scores]:
    """Scores by name of the texts: the dev split of the model's own evidence first, then what was scored later."""
    columns: dict[str, Scores] = {}
    evidence = config.evidence
    dev = evidence.get("dev", {})
    sha256 = evidence.get("data", {}).get("dev", {}).get("sha256")
    if "main_metric" in dev:
        metric = dev["main_metric"]
        task = next(
            (cell.task for cell, record in cells.items() if record["data"]["dev"].get("sha256") == sha256), None
        )
        columns[f"{task} dev" if task else "dev split"] = {
            "full": 100 * dev["full_precision"][metric] if "full_precision" in dev else None,
            "first": 100 * dev["members"][0][metric],
            "ensemble": 100 * dev["ensemble"][config.combination][metric],
            "rows": dev["rows"],
            "metric": metric,
        }
    for name, record in own.items():
        if record["data"]["sha256"] != sha256:
            columns[name] = {
                "full": record["full_precision"],
                "first": record["members"][0],
                "ensemble": record["ensemble"],
                "rows": record["data"]["rows"],
                "metric": record["metric"],
            }
    return columns


def _facts(config: Config, alphas: list[float], own: dict[str, Record]) -> list[list[str]]:
    size, parent = config.tensors_bytes, full_precision_bytes(config.members[0], config)
    kinds = ", ".join(dict.fromkeys(f"{member.family} {member.scheme}" for member in config.members))
    member, init = config.members[0], config.evidence.get("options", {}).get("init")
    encoder = f"{member.num_hidden_layers} layers of {member.hidden_size}, {config.vocab_size:,} word pieces"
    rows = [
        ["encoder", encoder + (f", from {init}" if init else "")],
        ["members", f"{len(config.members)} of {kinds}, combined by {config.combination}"],
        ["file", f"{size:,} bytes, full precision {parent:,}: {parent / size:.1f} times smaller"],
    ]
    for name, record in own.items():
        if noise := record.get("noise"):
            single, ensemble = noise["members"][0], noise["ensemble"]
            equal = equal_members(alphas)
            change = f"{100 * (ensemble / single - 1):+.0f} %" if single else NONE
            rows.append(
                [
                    f"deviation under noise of sigma {noise['sigma']:g}, {name}",
                    f"{single:.2f} first member, {ensemble:.2f} ensemble: {change} "
                    f"(expected of its alphas: {100 * (equal**-0.25 - 1):+.0f} %), {noise['seeds']} seeds of noise",
                ]
            )
        if record.get("members_run_exact"):
            rows.append(
                [f"members that run on {name}, early exit `exact`", f"{record['members_run_exact']:.2f} on average"]
            )
    return rows


def _score(value: float | None) -> str:
    return NONE if value is None else f"{value:.1f}"


def _difference(one: float | None, other: float | None) -> str:
    return NONE if one is None or other is None else f"{one - other:+.1f}"


def _error(column: Scores) -> str:
    """Of a share of right answers; a correlation has no such simple one."""
    if column["metric"] != "accuracy":
        return NONE
    share = column["ensemble"] / 100
    return f"{100 * sqrt(share * (1 - share) / column['rows']):.1f}"
