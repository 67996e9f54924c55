"""The size of the project beside the figures to reach: lines, modules, import floors, files on a path.

python -m benchmarks.size       half a minute; `make size` runs it

The last two figures are traced: they count every file of ours that runs, helpers too. Before the refactoring
the path of a row had been counted by hand, without helpers.
"""

import ast
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr
from functools import cache
from io import StringIO
from pathlib import Path
from unittest.mock import patch

from benchmarks.table import print_table

ROOT = Path(__file__).parents[1]
PRODUCT = ("pal", "pipeline")
# What is printed, the figure to reach, and the one before the refactoring.
FIGURES = {
    "lines of Python outside tests": ("20,500", "35,827"),
    "  of these pal and pipeline": ("17,000", "27,106"),
    "lines of tests": ("13,000", "23,635"),
    "modules in pal / pipeline": ("45 / 50", "95 / 104"),
    "import floors in pal": ("7", "15"),
    "private functions called once": ("12 %", "27 %"),
    "files that a row of a CSV passes to its metric": ("15", "33 on its own path, 86 traced"),
    "files / functions of RewardModel.rank on texts": ("8 / 14", "20 / 28, traced 11 / 40"),
}


def main() -> None:
    """Print every figure."""
    names = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [Path(name) for name in names.stdout.split() if (ROOT / name).is_file()]
    tests = [path for path in paths if path.parts[0] == "tests"]
    product = [path for path in paths if path.parts[0] in PRODUCT]
    modules = Counter(path.parts[0] for path in product if path.name != "__init__.py")
    row, rank = trace_own_data()
    values = (
        f"{lines(set(paths) - set(tests)):,}",
        f"{lines(product):,}",
        f"{lines(tests):,}",
        f"{modules['pal']} / {modules['pipeline']}",
        str(floors([path for path in product if path.parts[0] == "pal"])),
        f"{100 * called_once(product):.0f} %",
        str(len({file for file, _ in row})),
        f"{len({file for file, _ in rank})} / {len(rank)}",
    )
    cells = [
        (what, f"≤ {reach}", value, before)
        for value, (what, (reach, before)) in zip(values, FIGURES.items(), strict=True)
    ]
    print_table(("what", "reach", "now", "before"), cells)


def lines(paths: object) -> int:
    """Lines of files, blank ones too."""
    return sum(len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in paths)


def floors(paths: list[Path]) -> int:
    """The longest chain of imports, also those within functions; a package counts as one module."""
    imports: dict[str, set[str]] = {}
    for path in paths:
        unit = ".".join(path.with_suffix("").parts[:2])
        if path.name != "__init__.py" or len(path.parts) > 2:  # the outermost one re-exports everything
            imports.setdefault(unit, set()).update(_imported(path) - {unit})

    @cache
    def height(unit: str, above: tuple[str, ...] = ()) -> int:
        below = imports.get(unit, set()) - set(above)  # a circle is walked once
        return 1 + max((height(each, (*above, unit)) for each in below if each in imports), default=0)

    return max(height(unit) for unit in imports)


def _imported(path: Path) -> set[str]:
    """The modules and packages of `pal` that a file imports, but for those that only a type checker does."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "pal":
            names |= {f"pal.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {".".join(name.split(".")[:2]) for name in names if name.startswith("pal.")}


def called_once(paths: list[Path]) -> float:
    """The share of functions with a leading underscore that are named once beside their definition."""
    functions = once = 0
    for path in paths:
        nodes = list(ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))))
        used = Counter(node.id for node in nodes if isinstance(node, ast.Name))
        used += Counter(node.attr for node in nodes if isinstance(node, ast.Attribute))
        names = [node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        functions += len(names)
        once += sum(name.startswith("_") and not name.startswith("__") and used[name] == 1 for name in names)
    return once / functions


Code = tuple[str, str]  # a file of ours, and a function in it


def trace_own_data() -> tuple[set[Code], set[Code]]:
    """What runs between a CSV of one's own comparisons and its metrics, and in one call of `rank`."""
    from benchmarks.studies import STAGES, changed, staged, values
    from pal import RewardModel
    from pipeline import paths
    from pipeline.stages import evaluate, train

    rows = [
        f"user {user},which of {n % 6}?,a {'red' if user % 2 else 'blue'} thing {n},a green thing {n}"
        for user in range(8)
        for n in range(12)
    ]
    with tempfile.TemporaryDirectory() as store, patch.dict("os.environ", PAL_STORE=store):
        source = Path(store) / "own.csv"
        source.write_text("\n".join(["user_id,prompt,chosen,rejected", *rows]), encoding="utf-8")
        options = {"datasets": ["own"], "model.K": 2, "own.encoder": "hashed-words", "own.split.val": 0.0}
        options |= {"train.more_seeds": 0, "own.train.epochs": 2, "own.train.restarts": 1}
        given = changed(values("own", 0, source=str(source)), options)
        with redirect_stderr(StringIO()), staged("own", given, ()):
            row = traced(lambda: [stage.main("own") for stage in (*STAGES, train, evaluate)])
            model = RewardModel.load(paths.models("own") / "model")
            model.rank("which?", ["a red thing", "a blue thing"])  # loads the encoder
            rank = traced(lambda: model.rank("which of 1?", ["a red thing", "a blue thing"], user="user 1"))
    return row, rank


def traced(call: Callable[[], object]) -> set[Code]:
    """The functions of ours that a call enters, comprehensions aside."""
    entered: set[Code] = set()

    def enter(frame: object, event: str, _: object) -> None:
        code = frame.f_code  # type: ignore[attr-defined]
        if event == "call" and not code.co_name.startswith("<"):
            entered.add((code.co_filename, code.co_qualname))

    sys.setprofile(enter)
    try:
        call()
    finally:
        sys.setprofile(None)
    ours = tuple(str(ROOT / name) for name in PRODUCT)
    return {(file, name) for file, name in entered if file.startswith(ours)}


if __name__ == "__main__":
    main()
