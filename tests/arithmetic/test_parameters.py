"""No kernel takes more than nine parameters: what belongs together travels as a table row or a named tuple."""

import ast
from pathlib import Path

import bebert_kernels

MOST = 9
DECORATORS = {"kernel", "stage", "emitted", "vector_code"}


def functions() -> dict[str, ast.FunctionDef]:
    """What kernels can call: name with file -> definition."""
    found = {}
    for path in sorted(Path(bebert_kernels.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                names = {ast.unparse(item).split("(")[0] for item in node.decorator_list}
                if names & DECORATORS:
                    found[f"{path.name}:{node.name}"] = node
    return found


def test_no_kernel_has_more_than_nine_parameters():
    found = functions()
    assert len(found) > 60, "the search misses files"
    count = {name: len([item for item in node.args.args if item.arg != "e"]) for name, node in found.items()}
    assert not {name: parameters for name, parameters in count.items() if parameters > MOST}
    assert not [name for name, node in found.items() if node.args.vararg]  # a star would hide them
