"""Fingerprints of code: they follow imports wherever these stand, and see what code does, not its looks."""

import ast
from pathlib import Path

import pytest

from pipeline import code
from pipeline import paths as layout
from pipeline.paths import STAGES

ROOT = Path(__file__).parents[2]
SOURCE = {
    "pipeline/__init__.py": "",
    "pipeline/stages/split.py": '"""A."""\nfrom pipeline import tables\n\ndef main():\n    """B."""\n    return 1\n',
    "pipeline/stages/encode.py": "def main():\n    from pal.encoders import describe\n    import pipeline.storage.tables\n",
    "pipeline/stages/report.py": "from . import tables\nfrom .errors import PipelineError\nimport json\n",
    "pipeline/report.html.j2": "<p>{{ a }}</p>",
    "pipeline/reporter.html.j2": "another's",
    "pipeline/storage/tables.py": "import polars\nN = 1  # one\n",
    "pipeline/errors.py": "class PipelineError(Exception): ...\n",
    "pal/__init__.py": "",
    "pal/encoders/__init__.py": "from .catalogue import describe\n",
    "pal/encoders/catalogue.py": "from ..errors import PalError\ndef describe(): ...\n",
    "pal/errors.py": "class PalError(Exception): ...\n",
    "pal/models/heads.py": "def head(): ...\n",
}


@pytest.fixture
def repo(tmp_path):
    """A small repository: three stages, two packages, one template."""
    for name, text in SOURCE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def reached(repo, stage):
    return {path.as_posix() for path in code.closure(repo, Path(f"pipeline/{stage}.py"))}


def prints(repo):
    return {s: code.fingerprint(repo, Path(f"pipeline/{s}.py")) for s in ("split", "encode", "report")}


def changed_by(repo, name, text):
    """The stages whose fingerprint an edit of one file changes."""
    before = prints(repo)
    (repo / name).write_text(text)
    after = prints(repo)
    return {stage for stage in before if before[stage] != after[stage]}


def test_imports_from_a_package_reach_its_module_and_its_init(repo):
    assert reached(repo, "split") == {
        "pipeline/stages/split.py",
        "pipeline/__init__.py",
        "pipeline/storage/tables.py",
    }


def test_imports_inside_functions_parents_and_relative_ones_are_followed(repo):
    assert reached(repo, "encode") == {
        "pipeline/stages/encode.py", "pipeline/__init__.py", "pipeline/storage/tables.py", "pal/__init__.py",
        "pal/encoders/__init__.py", "pal/encoders/catalogue.py", "pal/errors.py",
    }  # fmt: skip


def test_a_template_counts_with_its_module_alone(repo):
    assert reached(repo, "report") == {
        "pipeline/stages/report.py", "pipeline/__init__.py", "pipeline/storage/tables.py", "pipeline/report.html.j2",
    }  # fmt: skip


def test_modules_in_a_circle_are_visited_once(repo):
    (repo / "pipeline/storage/tables.py").write_text("from pipeline import split\n")
    assert reached(repo, "split") == {
        "pipeline/stages/split.py",
        "pipeline/__init__.py",
        "pipeline/storage/tables.py",
    }


@pytest.mark.parametrize("name", ["params", "layout", "errors"])
def test_modules_read_for_values_alone_are_neither_counted_nor_followed(repo, name):
    (repo / "pipeline/stages/split.py").write_text(f"def main():\n    from pipeline.{name} import X\n")
    (repo / f"pipeline/{name}.py").write_text("from pal import heads\nX = 1\n")
    assert reached(repo, "split") == {"pipeline/stages/split.py", "pipeline/__init__.py"}
    assert changed_by(repo, f"pipeline/{name}.py", "from pal import errors\nX = 2\n") == set()


@pytest.mark.parametrize(
    "text",
    [
        "# a comment\nimport polars\n\n\nN = 1\n",
        '"""A docstring."""\nimport polars\nN = 1\n',
        "import polars\nN = (1)\n",
        "import polars; N = 1",
    ],
)
def test_comments_docstrings_and_layout_change_nothing(repo, text):
    assert changed_by(repo, "pipeline/storage/tables.py", text) == set()


@pytest.mark.parametrize("doc", ["", '"""Else."""', "'''More\n    lines.'''"])
def test_docstrings_of_functions_change_nothing(repo, doc):
    text = f"from pipeline import tables\n\ndef main():\n    {doc}\n    return 1\n"
    assert changed_by(repo, "pipeline/stages/split.py", text) == set()


@pytest.mark.parametrize(
    ("name", "text", "stages"),
    [
        ("pipeline/storage/tables.py", "import polars\nN = 2\n", {"split", "encode", "report"}),
        (
            "pipeline/stages/split.py",
            SOURCE["pipeline/stages/split.py"].replace("return 1", "return 2"),
            {"split"},
        ),
        (
            "pipeline/stages/split.py",
            SOURCE["pipeline/stages/split.py"].replace("return 1", "return '1'"),
            {"split"},
        ),
        ("pal/errors.py", "class PalError(ValueError): ...\n", {"encode"}),
        ("pal/encoders/__init__.py", "from .catalogue import describe as d\n", {"encode"}),
        ("pipeline/report.html.j2", "<p>{{ b }}</p>", {"report"}),
        ("pipeline/errors.py", "class PipelineError(ValueError): ...\n", set()),
        ("pal/models/heads.py", "def head(): return 1\n", set()),
    ],
)
def test_an_edit_changes_exactly_the_stages_that_it_reaches(repo, name, text, stages):
    assert changed_by(repo, name, text) == stages


def test_a_string_that_is_no_docstring_counts(repo):
    (repo / "pipeline/storage/tables.py").write_text("N = 'one'\n")
    assert changed_by(repo, "pipeline/storage/tables.py", "N = 'two'\n") == {"split", "encode", "report"}


def test_what_a_description_holds_does_not_depend_on_the_python_that_reads_it():
    """Written out by hand: Python 3.12 adds an empty type_params to functions, 3.13 leaves out more."""
    tree = ast.parse('@d\ndef f(a, *, b: int = 2):\n    """Doc."""\n    return f"{a!r}" + \'x\'  # why\n')
    assert code.describe(tree) == (
        "Module(body=[FunctionDef(name='f',args=arguments(args=[arg(arg='a')],"
        "kwonlyargs=[arg(arg='b',annotation=Name(id='int',ctx=Load()))],kw_defaults=[Constant(value=2)]),"
        "body=[Return(value=BinOp(left=JoinedStr(values=[FormattedValue(value=Name(id='a',ctx=Load()),"
        "conversion=114)]),op=Add(),right=Constant(value='x')))],"
        "decorator_list=[Name(id='d',ctx=Load())])])"
    )


def test_the_digest_is_a_literal(repo):
    """The first 16 hex digits of `printf "Module(body=[Assign(...)])" | sha256sum`, the line below."""
    (repo / "a.py").write_text('"""Doc."""\nN = 1\n')
    described = "Module(body=[Assign(targets=[Name(id='N',ctx=Store())],value=Constant(value=1))])"
    assert code.describe(ast.parse("N = 1")) == described
    assert code.digest(repo / "a.py") == "4278873b84acd6e4"


def test_main_writes_one_file_per_stage(project):
    for package in ("pal", "pipeline"):
        (project.root / package).symlink_to(ROOT / package)
    code.main()
    assert {path.stem for path in Path("data/code").iterdir()} == set(STAGES)
    encode = Path("data/code/encode.txt").read_text()
    assert "  pal/encoders/sentence.py\n" in encode
    assert "  pal/models/heads.py\n" not in encode
    assert "  pal/models/heads.py\n" in Path("data/code/train.txt").read_text()
    assert "  pipeline/report.html.j2\n" in Path("data/code/report.txt").read_text()
    assert "params.py" not in encode


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reaches_no_later_one(stage):
    """A stage that did would rerun with it, and encode with every change to a head."""
    paths = code.closure(ROOT, Path(f"pipeline/{layout.module(stage)}.py"))
    assert {path.stem for path in paths} & {
        layout.module(later) for later in STAGES[STAGES.index(stage) + 1 :]
    } == set()


@pytest.mark.parametrize("stage", ["check", "download", "prepare", "recolour", "split", "encode"])
def test_no_stage_before_train_reaches_the_heads(stage):
    paths = code.closure(ROOT, Path(f"pipeline/{stage}.py"))
    others = {path for path in paths if path.parts[0] == "pal" and path.parent != Path("pal/encoders")}
    assert {path.as_posix() for path in others} <= {"pal/__init__.py", "pal/errors.py"}


def test_the_pipeline_imports_from_pal_by_the_modules_names():
    """`from pal import RewardModel` is resolved at run time, where a fingerprint cannot follow it."""
    for path in (ROOT / "pipeline").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "pal":
                for alias in node.names:
                    home = ROOT / "pal" / alias.name
                    assert home.is_dir() or home.with_suffix(".py").is_file(), path
