"""params.yaml: as shipped it loads, and whatever is wrong is one sentence that names key, got and allowed."""

import difflib
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from dvc.utils.hydra import apply_overrides

from pipeline import PipelineError, params

SHIPPED = (Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8")
KEY = re.compile(r"^(?P<indent> *)(?P<key>[\w-]+):(?P<value>.*)$")


def test_shipped_params_load(project):
    values = params.load()
    assert values.datasets == ["simulated", "persona", "pickafilter"]
    assert values.model.K == 3
    assert values["own"].source is None


def test_every_parameter_is_described():
    """By a comment above it or beside it, or in the list of what all datasets' sections have."""
    lines = SHIPPED.splitlines()
    shared = set(re.findall(r"^#   (\w+)  ", SHIPPED, flags=re.M))
    bare, path = [], []
    for above, line in zip(["", *lines], lines, strict=False):
        if match := KEY.match(line):
            path = [*path[: len(match["indent"]) // 2], match["key"]]
            known = (len(path) == 2 and path[1] in shared) or path[:2] == ["encode", "weights"]
            if (
                match["value"]
                and not known
                and "#" not in line.replace("'#", "")
                and not above.lstrip().startswith("#")
            ):
                bare.append(".".join(path))
    as_for_v1 = ["pickapic_v2.prepare.unseen_users"]
    assert bare == ["persona.prepare.unseen_users_per_group", *as_for_v1]


WRONG = [
    ("modle", 1, "modle in params.yaml is not a known key; did you mean 'model'?"),
    ("own.head.latnet", 8, "own.head.latnet in params.yaml is not a known key; did you mean 'latent'?"),
    ("model", 3, "model must be a map of options, got 3"),
    ("model.K", 301, "model.K must be at most 100, the seen users of simulated, got 301; lower it"),
    ("datasets", [], "datasets must be a list of at least 1, got []"),
    ("datasets", ["personna"], "datasets must be some of simulated, persona, pickafilter, pickapic_v1, "),
    ("datasets", ["own", "own"], "datasets must not repeat a name, got ['own', 'own']"),
    ("persona.source", None, "persona.source must be text, got None"),
    ("simulated.source", "drawn", "simulated.source must be one of 'generated', got 'drawn'"),
    ("persona.hub.repo", "evals", r"persona.hub.repo must be text of the form ^[\w.-]+/[\w.-]+$, got 'evals'"),
    ("simulated.prepare.concentration", 0, "simulated.prepare.concentration must be above 0, got 0"),
    ("simulated.prepare.min_distance", float("nan"), "min_distance must be a finite number, got nan"),
    ("simulated.prepare.adapt_pairs", 7, "simulated.prepare.adapt_pairs must be at least 20, the largest of"),
    ("own.split.val", 0.9, "own.split: val + test must be below 1, got 0.9 + 0.2; the rest is trained on"),
    ("persona.encoder", "clip", "persona.encoder must be one of all-MiniLM-L6-v2, "),
    ("pickafilter.encoder", {"text": "hashed-words"}, "pickafilter.encoder.image is missing"),
    ("compare.methods", ["bt", "magic"], "compare.methods.1 must be one of 'popularity', "),
    ("own.head.model", "C", "own.head.model must be one of 'A', 'B', "),
    ("evaluate.shots", [0, 20], "evaluate.shots.0 must be at least 1, got 0"),
    ("evaluate.shots", [20, 2**63], "evaluate.shots.1 must be below 2"),
    ("evaluate.headline_shots", 7, "evaluate: headline_shots must be one of shots [1, 2, 5, 10, 20], got 7"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "message"), WRONG, ids=[f"{w[0]}={w[1]}" for w in WRONG])
def test_a_wrong_key_or_value_is_one_sentence(project, key, value, message):
    project.set({key: value})
    with pytest.raises(PipelineError, match=re.escape(message)) as caught:
        params.load()
    assert "params.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_experiment_rewrites_the_lines_of_its_keys_alone(tmp_path, monkeypatch):
    """As `dvc exp run -S` does, which reads the file, merges, and writes all of it."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(SHIPPED, encoding="utf-8")
    apply_overrides("params.yaml", ["model.K=5", "datasets=[own]", "own.source=a.csv"])
    lines = difflib.ndiff(SHIPPED.splitlines(), Path("params.yaml").read_text(encoding="utf-8").splitlines())
    changed = [line.split("#")[0].rstrip() for line in lines if line[0] in "+-"]
    assert sorted(changed) == sorted([
        "- - simulated", "- - persona", "- - pickafilter", "+ - own", "-   K: 3", "+   K: 5",
        "-   source:", "+   source: a.csv",
    ])  # fmt: skip


@pytest.mark.parametrize("key", ["datasets", "model.K", "evaluate", "own", "own.head", "own.prepare.ties"])
def test_a_missing_key_is_named(project, key):
    project.drop(key)
    with pytest.raises(PipelineError, match=rf"^{key} is missing.*params.yaml"):
        params.load()


def test_options_start_from_the_preset_and_null_is_its_value(project):
    """The preset ours for model B fits a mixture; model A's does not."""
    project.set({"own.preset": "paper", "own.head.scale": 2, "own.train.epochs": None, "model.K": 5})
    values = params.load()
    head, fit = values.configs("persona")
    assert (head.model, head.K, head.similarity, fit.objective) == ("B", 5, "inner", "mixture")
    assert values.configs("simulated")[1].objective == "pal"
    head, fit = values.configs("own")
    assert (head.scale, head.dropout, fit.learning_rate, fit.epochs) == (2.0, 0.5, 1e-4, 10)
    assert values.configs("own", K=2)[0].K == 2


def test_another_module_of_the_name_yaml_is_told(project, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", SimpleNamespace(__file__="yaml.py"))
    with pytest.raises(PipelineError, match=r"the module yaml must be PyYAML, got yaml.py; rename it"):
        params.load()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a: b: c", "params.yaml is not valid YAML: mapping values are not allowed"),
        (b"datasets: !!python/object:os.system\n", "params.yaml is not valid YAML: could not determine"),
        (b"- 1\n- 2\n", r"params.yaml must hold a map of options, got \[1, 2\]"),
        (b"3: 4\n" + SHIPPED.encode(), "3 in params.yaml is not a known key"),
        (b"a: &a [*a]\n", "a in params.yaml is not a known key|modle|is missing|must be"),
        (b"model:\n  K: 3\n  K: 5\n", 'params.yaml is not valid YAML: found duplicate key "K" with value "5" .* in line 3'),
        (b"model:\n  K: 010\n", "a whole number must have no leading zero, .* got '010' in line 2"),
        (b"epochs: 99999999999999999999\n", "at most 19 digits, got '99999999999999999999' in line 1"),
        (b"\xff\xfe", r"params.yaml is not valid YAML: .*0xff"),
        (None, "params.yaml is missing; run this in the repository's root"),
    ],
)  # fmt: skip
def test_what_is_no_map_of_options_is_refused(project, text, message):
    (project.root / "params.yaml").unlink()
    if text is not None:
        (project.root / "params.yaml").write_bytes(text)
    with pytest.raises(PipelineError, match=message) as caught:
        params.load()
    assert "\n" not in str(caught.value)
