"""code: fingerprint the code that each stage runs, so that an edit reruns exactly the stages that it reaches.

A stage's fingerprint is a line per module that it imports, wherever the import stands: a hash of the
module's syntax tree without comments and docstrings. `-S model.K=5` or a new docstring reruns no encoder.
"""

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

from pal.files import new_folder, write_text
from pipeline import paths as layout

ROOTS = ("pal", "pipeline")
# Read for their values alone, which DVC tracks as params; counting their code would rerun every stage.
EXEMPT = {
    Path("pipeline/params.py"),
    Path("pipeline/knobs.py"),
    Path("pipeline/paths.py"),
    Path("pipeline/errors.py"),
    Path("pipeline/__main__.py"),
    # They move bytes and shape none: what is handed to them is on the disk or there is an error.
    Path("pal/files.py"),
}


def main() -> None:
    """Write one fingerprint per stage."""
    root = Path()
    with new_folder(layout.CODE) as folder:
        for stage in layout.STAGES:
            lines = fingerprint(root, _home(stage))
            write_text(folder / f"{stage}.txt", "".join(lines))


def _home(stage: str) -> Path:
    name = layout.module(stage)
    return Path("pipeline/code.py") if name == "code" else Path(f"pipeline/stages/{name}.py")


def fingerprint(root: Path, module: Path) -> list[str]:
    """One line per module that `module` imports, itself among them: its hash and its path, by path."""
    paths = sorted(closure(root, module))
    return [f"{digest(root / path)}  {path.as_posix()}\n" for path in paths]


def closure(root: Path, module: Path) -> set[Path]:
    """Our modules that `module` imports, directly or not, packages' `__init__` and templates among them."""
    seen: set[Path] = set()
    waiting = [module]
    while waiting:
        path = waiting.pop()
        if path in seen or path in EXEMPT:
            continue
        seen.add(path)
        if path.suffix == ".py":
            waiting.extend(p for p in imported(root, path) if p not in seen)
            waiting.extend(p.relative_to(root) for p in (root / path.parent).glob(f"{path.stem}.*.j2"))
    return seen


def imported(root: Path, path: Path) -> Iterator[Path]:
    """Our modules that one module names in its import statements."""
    package = path.parent.parts
    for node in ast.walk(ast.parse((root / path).read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names = [stem, *(f"{stem}.{alias.name}" for alias in node.names)]
        for name in names:
            yield from _files(root, name)


def _files(root: Path, name: str) -> Iterator[Path]:
    """The module's file and those of the packages above it."""
    parts = name.split(".")
    if parts[0] not in ROOTS:
        return
    for depth in range(1, len(parts) + 1):
        stem = Path(*parts[:depth])
        for candidate in (stem / "__init__.py", stem.with_suffix(".py")):
            if (root / candidate).is_file():
                yield candidate


def digest(path: Path) -> str:
    """A hash of what a file does: for Python its syntax without comments and docstrings, else its bytes."""
    content = path.read_bytes()
    if path.suffix == ".py":
        content = describe(ast.parse(content)).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def describe(node: object) -> str:
    """The syntax tree as text, without docstrings, places and empty fields.

    Empty fields are left out since each Python version adds some: 3.11 and 3.13 must agree.
    """
    if isinstance(node, list):
        return "[" + ",".join(map(describe, node)) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = []
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(value, list):
            value = _without_docstring(value)
        if value is not None and value != [] and name not in ("type_comment", "kind"):
            fields.append(f"{name}={describe(value)}")
    return f"{type(node).__name__}({','.join(fields)})"


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        return body[1:]
    return body
