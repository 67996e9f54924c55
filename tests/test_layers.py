"""Who may import whom: every import in pal and pipeline, also those within functions, runs down the layers."""

from pathlib import Path

import pytest

from benchmarks.size import imported

ROOT = Path(__file__).parents[1]
GROUND = {"pal.conversations", "pal.errors", "pal.config", "pal.comparisons", "pal.files"}
STORED = {"pipeline.PipelineError", "pipeline.paths", "pipeline.storage"}
READ = STORED | {"pipeline.datasets", "pipeline.images", "pipeline.study"}
JUDGED = READ | {"pipeline.params", "pipeline.evaluation"}
METHODS = GROUND | {"pal.models", "pal.users", "pal.fitting", "pal.evaluation"}
# A package, or a module at the top, and what else it may import of ours; all may import themselves.
MAY_IMPORT = {
    **dict.fromkeys(GROUND, GROUND),
    "pal.models": GROUND,
    "pal.encoders": GROUND,
    "pal.logs": GROUND | {"pal.encoders"},
    "pal.users": GROUND | {"pal.models"},
    "pal.fitting": GROUND | {"pal.models", "pal.users"},
    "pal.evaluation": GROUND | {"pal.models", "pal.users"},
    "pal.report": GROUND | {"pal.models", "pal.users", "pal.evaluation"},
    "pal.methods": METHODS,
    "pal.serving": METHODS | {"pal.encoders", "pal.logs", "pal.methods", "pal.report"},
    "pal.service": GROUND
    | {"pal.serving", "pal.models", "pal.users", "pal.encoders", "pal.logs", "pal.__version__"},
    "pal.cli": METHODS - {"pal.fitting"}
    | {"pal.serving", "pal.service", "pal.methods", "pal.logs", "pal.__version__"},
    "pipeline.PipelineError": set(),
    "pipeline.paths": {"pipeline.PipelineError"},
    "pipeline.storage": STORED,
    "pipeline.datasets": STORED,
    "pipeline.images": STORED,
    "pipeline.study": STORED,
    "pipeline.params": STORED | {"pipeline.datasets"},
    "pipeline.evaluation": READ | {"pipeline.params"},
    "pipeline.report": {"pipeline.PipelineError", "pipeline.paths", "pal.report"},
    "pipeline.stages": JUDGED | {"pipeline.report"},
    "pipeline.__main__": JUDGED | {"pipeline.stages"},
}
MODULES = sorted(path for package in ("pal", "pipeline") for path in (ROOT / package).rglob("*.py"))


def unit(name: str) -> str:
    """The package, or module at the top, that a dotted name is in."""
    return ".".join(name.split(".")[:2])


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_run_down_the_layers(path):
    module = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    if module in ("pal", "pipeline"):
        return
    home = unit(module)
    for name in imported(path):
        into = unit(name)
        allowed = into == home or into in MAY_IMPORT[home]
        allowed |= home.startswith("pipeline") and home != "pipeline.report" and into.startswith("pal.")
        assert allowed, f"{module} must not import {name}"
        if home == into == "pipeline.stages":
            assert name in ("pipeline.stages", module), (
                f"a stage must import no stage, {module} imports {name}"
            )
