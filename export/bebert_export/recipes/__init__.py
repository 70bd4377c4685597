"""Recipes that come along: for each GLUE task a TOML file with options of `bebert train`."""

from pathlib import Path

from bebert_infer.errors import InputError


def shipped_recipes() -> dict[str, Path]:
    """Name -> file of every recipe beside this one, by name."""
    return {file.stem: file for file in sorted(Path(__file__).parent.glob("*.toml"))}


def find_recipe(name: str) -> Path:
    """The file of a recipe, given by its path, or by its name if it comes along. Raises InputError for other names."""
    path, shipped = Path(name), shipped_recipes()
    if path.suffix or len(path.parts) != 1:
        return path
    if name not in shipped:
        raise InputError(f'recipe is "{name}"; accepted are {", ".join(shipped)}, or the path of a .toml file')
    return shipped[name]
