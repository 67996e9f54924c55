"""The size of the project beside the figures to reach: `make size`, half a minute.

The last two figures are traced: they count every file of ours that runs, helpers too. Before the refactoring
the path of a row had been counted by hand, without helpers.
"""

import ast
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr
from functools import cache
from io import StringIO
from pathlib import Path
from unittest.mock import patch

from benchmarks.studies import ALL_STAGES, ROOT, changed, staged, values
from benchmarks.table import print_table
from pal import RewardModel
from pipeline import paths as data_paths

Code = tuple[str, str]  # a file of ours, and a function in it


def main() -> None:
    """Print every figure."""

    def lines(paths: Iterable[Path]) -> str:
        return f"{sum(len((ROOT / path).read_text(encoding='utf-8').splitlines()) for path in paths):,}"

    command = ["git", "ls-files", "*.py"]
    names = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    paths = [Path(name) for name in names.split() if (ROOT / name).is_file()]
    tests = [path for path in paths if path.parts[0] == "tests"]
    product = [path for path in paths if path.parts[0] in ("pal", "pipeline")]
    modules = Counter(path.parts[0] for path in product if path.name != "__init__.py")
    levels = floors([path for path in product if path.parts[0] == "pal"])
    row, rank = trace_own_data()
    path, reward = len({file for file, _ in row}), f"{len({file for file, _ in rank})} / {len(rank)}"
    figures = [
        ("lines of Python outside tests", "20,500", lines({*paths} - {*tests}), "35,827"),
        ("  of these pal and pipeline", "17,000", lines(product), "27,106"),
        ("lines of tests", "13,000", lines(tests), "23,635"),
        ("modules in pal / pipeline", "45 / 50", f"{modules['pal']} / {modules['pipeline']}", "95 / 104"),
        ("import floors in pal", "7", str(levels), "15"),
        ("private functions called once", "12 %", f"{100 * called_once(product):.0f} %", "27 %"),
        ("files that a row of a CSV passes to its metric", "15", str(path), "33, traced 86"),
        ("files / functions of RewardModel.rank", "8 / 14", reward, "20 / 28, traced 11 / 40"),
    ]
    print_table(("what", "at most", "now", "before"), figures)


def floors(paths: list[Path]) -> int:
    """The longest chain of imports, also those within functions; a package counts as one module."""
    imports: dict[str, set[str]] = {}
    for path in paths:
        if path != Path("pal/__init__.py"):  # it re-exports everything
            unit = ".".join(path.with_suffix("").parts[:2])
            below = {".".join(name.split(".")[:2]) for name in imported(path)}
            imports.setdefault(unit, set()).update(below - {unit})

    @cache
    def height(unit: str, above: tuple[str, ...] = ()) -> int:
        below = imports[unit] & imports.keys() - set(above)  # a circle is walked once
        return 1 + max((height(each, (*above, unit)) for each in below), default=0)

    return max(height(unit) for unit in imports)


def imported(path: Path) -> set[str]:
    """The modules of ours that a file imports, but for those that only a type checker does."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            assert not node.level, f"{path}: a relative import"
            within = module in ("pal", "pipeline", "pipeline.stages")
            names |= {f"{module}.{alias.name}" for alias in node.names} if within else {module}
    return {name for name in names if name.split(".")[0] in ("pal", "pipeline")}


def called_once(paths: list[Path]) -> float:
    """The share of functions with a leading underscore that are named once beside their definition."""
    functions = once = 0
    for path in paths:
        nodes = list(ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))))
        used = Counter(node.id for node in nodes if isinstance(node, ast.Name))
        used += Counter(node.attr for node in nodes if isinstance(node, ast.Attribute))
        names = [node.name for node in nodes if isinstance(node, ast.FunctionDef)]
        functions += len(names)
        once += sum(name.startswith("_") and not name.startswith("__") and used[name] == 1 for name in names)
    return once / functions


def trace_own_data() -> tuple[set[Code], set[Code]]:
    """What runs between a CSV of one's own comparisons and its metrics, and in one call of `rank`."""
    colours = ("red", "blue")
    rows = [
        f"user {n % 8},which of {n % 6}?,a {colours[n % 2]} thing {n},a green thing {n}" for n in range(96)
    ]
    options = {"datasets": ["own"], "model.K": 2, "own.encoder": "hashed-words", "own.split.val": 0.0}
    options |= {"own.method": None, "train.more_seeds": 0, "own.train.epochs": 2, "own.train.restarts": 1}
    with tempfile.TemporaryDirectory() as store, patch.dict("os.environ", PAL_STORE=store):
        source = Path(store) / "own.csv"
        source.write_text("\n".join(["user_id,prompt,chosen,rejected", *rows]), encoding="utf-8")
        given = changed(values("own", 0, source=str(source)), options)
        with redirect_stderr(StringIO()), staged("own", given, ()):
            row = traced(lambda: [stage.main("own") for stage in ALL_STAGES])
            model = RewardModel.load(data_paths.models("own") / "model")
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
    ours = (str(ROOT / "pal"), str(ROOT / "pipeline"))
    return {(file, name) for file, name in entered if file.startswith(ours)}


if __name__ == "__main__":
    main()
