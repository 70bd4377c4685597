"""A real Spark cluster on this machine: a master, two executors of one CPU each, their Python workers."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


def need_spark() -> None:
    """Skip the file of tests where PySpark, what it needs, or Java is not there."""
    for package in ("pyspark", "pyarrow", "pandas"):
        pytest.importorskip(package, reason=f"{package} is not installed (extra spark)")
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        reason = "Spark needs Java, and there is no java on the PATH: apt install openjdk-17-jre-headless"
        pytest.skip(reason, allow_module_level=True)


@contextmanager
def spark_cluster(
    folder: Path, master: str = "local-cluster[2,1,1024]", java: str = "-XX:TieredStopAtLevel=1", **settings: str
) -> Iterator[Any]:
    """A session with a cluster of its own, gone with all of its processes when the block ends.

    folder : of everything that Spark writes     master : or "local[2]", which has no executors
    java : options of every JVM, by default those that start soonest
    settings : of Spark, `spark_task_cpus` is "spark.task.cpus"
    """
    import pyspark
    from pyspark.sql import SparkSession

    # Its workers write below SPARK_HOME, which would be the installed package.
    home = folder / "home"
    home.mkdir(parents=True)
    for file in Path(pyspark.__file__).parent.iterdir():
        (home / file.name).symlink_to(file)
    java += f" -Djava.io.tmpdir={folder} -XX:-UsePerfData -XX:+UseSerialGC"
    options = {
        "spark.driver.memory": "1g",
        "spark.executor.memory": "1g",
        "spark.driver.extraJavaOptions": java,
        "spark.executor.extraJavaOptions": java,
        "spark.local.dir": str(folder / "local"),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.sql.shuffle.partitions": "2",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    } | {name.replace("_", "."): value for name, value in settings.items()}
    environment = {"SPARK_HOME": str(home), "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    before = dict(os.environ)
    os.environ.update(environment)
    builder = SparkSession.builder.master(master)
    for name, value in options.items():
        builder = builder.config(name, value)
    try:
        spark = builder.getOrCreate()
        spark.sparkContext.setLogLevel("OFF")
        try:
            yield spark
        finally:
            spark.stop()
            _end_java()
    finally:
        os.environ.clear()
        os.environ.update(before)


def _end_java() -> None:
    """End the JVM of the driver, which PySpark would keep for the next session of this process."""
    from pyspark import SparkContext

    gateway: Any = SparkContext._gateway
    gateway.shutdown()
    gateway.proc.stdin.close()  # what it waits for
    gateway.proc.wait(60)
    SparkContext._gateway = SparkContext._jvm = None


def children(pid: int) -> list[int]:
    """All processes below one."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                child = int(stat.parent.name)
                found += [child, *children(child)]
        except OSError:  # gone
            continue
    return found


def command(pid: int) -> str:
    """Command line of a process, empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def executors() -> list[int]:
    """Executors of the cluster that this process runs."""
    return [pid for pid in children(os.getpid()) if "CoarseGrainedExecutorBackend" in command(pid)]


def python_workers() -> list[int]:
    """Python workers of these executors: what the daemon of each has forked."""
    daemons = [pid for one in executors() for pid in children(one) if "pyspark.daemon" in command(pid)]
    return [pid for daemon in daemons for pid in children(daemon)]
