"""How many classifying workers a cluster has room for, so that what reads and writes rows still finds a CPU.

Ray starts a pool of actors and keeps their CPUs until the job ends. If they take all of them, the tasks that read wait
for a CPU for ever, and nothing says so.
"""

from collections.abc import Sequence
from typing import Any

from bebert_infer.errors import InputError

Concurrency = int | tuple[int, int] | None


def cluster_cpus() -> list[float]:
    """CPUs of each machine of the cluster that this process is connected to, as Ray counts them."""
    import ray

    return [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]


def threads_of(num_cpus: float) -> int:
    """Threads of a worker that the scheduler gives so many CPUs. Raises InputError."""
    if isinstance(num_cpus, bool) or not isinstance(num_cpus, int | float) or not 0 < num_cpus < 2**16:
        raise InputError(f"num_cpus is {num_cpus!r:.80}; accepted are numbers above 0, the CPUs of one worker")
    return max(1, int(num_cpus))


def room(machines: Sequence[float], num_cpus: float, spare: float = 1) -> int:
    """Workers of so many CPUs that fit on these machines beside one task of `spare` CPUs."""
    fits = [int(cpus / num_cpus) for cpus in machines]
    if not spare:
        return sum(fits)
    # The machine on which the task costs the fewest workers has it.
    costs = [fit - int((cpus - spare) / num_cpus) for fit, cpus in zip(fits, machines, strict=True) if cpus >= spare]
    return sum(fits) - min(costs) if costs else 0


def pool_size(
    concurrency: Concurrency, machines: Sequence[float], num_cpus: float, spare: float = 1
) -> tuple[int, int]:
    """The fewest and the most workers of a pool; None: as many as there is room for. Raises InputError.

    spare : CPUs that a task beside the workers needs
    """
    fits = room(machines, num_cpus, spare)
    asked: Any = max(fits, 1) if concurrency is None else concurrency
    least, most = asked if isinstance(asked, tuple) and len(asked) == 2 else (asked, asked)
    if not all(isinstance(one, int) and not isinstance(one, bool) for one in (least, most)) or not 1 <= least <= most:
        raise InputError(
            f"concurrency is {concurrency!r:.80}; accepted are a number of workers of at least 1, or the fewest and "
            "the most of them: (2, 8)"
        )
    if most > fits:
        cpus = " + ".join(f"{cpus:g}" for cpus in machines[:8]) + (" + …" if len(machines) > 8 else "") or "0"
        beside = f" beside {spare:g} for the tasks that read and write, without which the job would wait for ever"
        raise InputError(
            f"{most} worker{'s' * (most != 1)} of {num_cpus:g} CPU{'s' * (num_cpus != 1)} do not fit on this cluster: "
            f"it has {cpus} CPUs, room for {fits}{beside * bool(spare)}; ask for fewer or smaller ones, or give Ray "
            "more CPUs"
        )
    return least, most
