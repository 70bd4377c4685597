"""What pyproject.toml cannot say: a build compiles the kernels and names the wheel after the machines that they run on.

    BEBERT_TARGETS=here             the level of this machine (default); nothing on a system without levels
    BEBERT_TARGETS="x86_64"         every level of an architecture: a wheel for all Linux machines of it
    BEBERT_TARGETS=none             no compiled kernels; the extra `jit` compiles them at first use

Two builds of the same sources with the same tools give the same bytes.
"""

import gzip
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from setuptools import Command, Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build
from setuptools.command.sdist import sdist

ROOT = Path(__file__).parent
TOOLS = ("llvmlite", "numba", "numpy", "ziglang")  # compile and link, in the versions of constraints.txt
ARCHITECTURES = ("x86_64", "aarch64")
EPOCH = int(os.environ.setdefault("SOURCE_DATE_EPOCH", "1577836800"))  # one date for all files of all archives

os.umask(0o022)  # modes of files are bytes of an archive, too


def targets() -> list[str]:
    """Words of BEBERT_TARGETS; empty for `none`, and for `here` where no library could be loaded."""
    words = os.environ.get("BEBERT_TARGETS", "").split() or ["here"]
    if words == ["here"] and not (sys.platform == "linux" and platform.machine() in ARCHITECTURES):
        return []
    return [] if words == ["none"] else words


def tools() -> list[str]:
    """Requirements of a build that compiles, pinned: other versions make other bytes, if they work at all."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return [line for line in lines if line.partition("==")[0] in TOOLS] if targets() else []


class Kernels(Command):
    """Compile the kernels into the package that is being built, or in an editable install into the sources."""

    description, user_options = "compile the kernels", []
    build_lib, editable_mode = None, False

    def initialize_options(self):
        """Nothing but what setuptools sets."""

    def finalize_options(self):
        """Take the folder of the build."""
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self):
        """The package compiles itself, so its index has the hash of the very files that are installed."""
        folder = ROOT / "kernels" if self.editable_mode else Path(self.build_lib).resolve()
        shutil.rmtree(folder / "bebert_kernels" / "ahead" / "libraries", ignore_errors=True)
        if wanted := targets():
            paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
            command = [sys.executable, "-m", "bebert_kernels.compile.libraries", *wanted]
            if subprocess.run(command, env=environment).returncode:
                raise SystemExit(
                    f"the kernels were not compiled for {' '.join(wanted)}, the lines above say why; "
                    "BEBERT_TARGETS=none installs without them, and pip install 'bebert-infer[jit]' compiles them "
                    "at first use"
                )

    def get_outputs(self):
        """Installed with the folder of the build, as a whole."""
        return []

    def get_output_mapping(self):
        """Nothing is copied one by one."""
        return {}

    def get_source_files(self):
        """The sources are those of the package."""
        return []


class Wheel(bdist_wheel):
    """A wheel for every Python 3 on the machines that its kernels are for: they use nothing of Python."""

    def get_tag(self):
        """Whole architectures are for every Linux since glibc 2.17; the level of this machine is for it alone."""
        if not targets():
            return super().get_tag()
        whole = [name for name in targets() if name in ARCHITECTURES]
        if whole == targets():
            return "py3", "none", ".".join(f"manylinux_2_17_{name}" for name in whole)
        return "py3", "none", re.sub(r"\W", "_", self.plat_name)

    def write_wheelfile(self, *arguments, **options):
        """The last file before all are packed: from here on they have the modes of files that anybody may read."""
        super().write_wheelfile(*arguments, **options)
        for path in Path(self.bdist_dir).rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)


class Package(Distribution):
    """With compiled code the package is for a platform, though no module of it is."""

    def has_ext_modules(self):
        """Whether there is code of a platform."""
        return bool(targets())


class Sources(sdist):
    """The sources, with nothing in the archive that depends on who packs it, and when."""

    def make_archive(self, base_name, format, root_dir=None, base_dir=None, owner=None, group=None):  # noqa: A002
        """A .tar.gz, whatever was asked for: sorted, all files of nobody and of one date."""

        def plain(entry):
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mtime, entry.mode = EPOCH, 0o755 if entry.isdir() else 0o644
            return entry

        target = Path(f"{base_name}.tar.gz")
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            target.open("wb") as raw,
            gzip.GzipFile("", "wb", fileobj=raw, mtime=EPOCH) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            archive.add(base_dir, filter=plain)  # sorts the names of each folder
        return str(target)


build.sub_commands = [*build.sub_commands, ("build_kernels", None)]
setup(
    distclass=Package,
    setup_requires=tools(),
    cmdclass={"build_kernels": Kernels, "bdist_wheel": Wheel, "sdist": Sources},
)
