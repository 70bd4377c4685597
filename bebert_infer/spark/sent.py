"""What a worker must know of a model: this and no more travels with every task."""

from typing import NamedTuple


class SentModel(NamedTuple):
    """A model that the driver has read.

    name    : what the user calls it: a folder, or a name on the hub
    digest  : of everything that decides its answers (`bulk.classify.model_digest`)
    release : of bebert-infer at the driver
    archive : folder that Spark unpacks at every worker (`SparkFiles`), or None: each worker opens `name` itself
    """

    name: str
    digest: str
    release: str
    archive: str | None
