"""params.yaml: as shipped it loads, and whatever is wrong is one sentence that names key, got and allowed."""

import re
from pathlib import Path

import pytest

from pipeline import params
from pipeline.errors import PipelineError
from pipeline.knobs import DATASETS

SHIPPED = Path(__file__).parents[2] / "params.yaml"
OF_ONE_KIND = {"hub", "recolour", "split", "encoder", "encode.weights", "preset"}
KEY = re.compile(r"^(?P<indent> *)(?P<key>\w+):(?P<value>.*)$")


def knobs():
    """Every key of the shipped file, the keys within {...} aside: its dotted name, and whether it is told of.

    A comment above a key tells of it. One above a map tells of the map's keys too where they are all of one
    kind: a word for every dataset, a place for every repository.
    """
    lines = SHIPPED.read_text(encoding="utf-8").splitlines()
    path, told, within = [], {}, False
    for above, line in zip(["", *lines], lines, strict=False):
        if not within and (match := KEY.match(line)):
            path = [*path[: len(match["indent"]) // 2], match["key"]]
            name, parent = ".".join(path), ".".join(path[:-1])
            told[name] = above.lstrip().startswith("# ") or (parent in OF_ONE_KIND and told[parent])
            if match["value"].strip():
                yield name, told[name]
        within = line.count("{") > line.count("}") if not within else "}" not in line


def test_shipped_params_load():
    values = params.load()
    assert values.datasets == ["simulated", "persona", "pickafilter"]
    assert values.model.K == 3


def test_every_knob_has_a_comment_above_its_first_occurrence():
    """head and train hold the same keys per dataset, described at the first; {...} at the first such map."""
    commented = {}
    for name, has_comment in knobs():
        same = re.sub(rf"^(head|train)\.({'|'.join(DATASETS)})(\.|$)", r"\1\3", name)
        commented.setdefault(same, has_comment)
    assert len(commented) > 80
    assert [name for name, has_comment in commented.items() if not has_comment] == []


WRONG = [
    ("modle", 1, "modle in params.yaml is not a known key; did you mean 'model'?"),
    ("model.k", 1, "model.k in params.yaml is not a known key; known are K"),
    ("prepare.persona.user_per_group", 1, "is not a known key; did you mean 'users_per_group'?"),
    ("split.own.tets", 0.1, "split.own.tets in params.yaml is not a known key; did you mean 'test'?"),
    ("head.personna", {}, "head.personna in params.yaml is not a known key; did you mean 'persona'?"),
    (
        "head.persona.latnet",
        8,
        "head.persona.latnet in params.yaml is not a known key; did you mean 'latent'?",
    ),
    ("head.persona.K", 8, "head.persona.K in params.yaml is not a known key; known are model, latent,"),
    ("train.own.epoch", 8, "train.own.epoch in params.yaml is not a known key; did you mean 'epochs'?"),
    ("model", 3, "model must be a map of options, got 3"),
    ("head.own", None, "head.own must be a map of options, got None"),
    ("model.K", 0, "model.K must be at least 1, got 0"),
    ("model.K", "3", "model.K must be a whole number, got '3'"),
    ("model.K", 2.5, "model.K must be a whole number, got 2.5"),
    ("model.K", True, "model.K must be a whole number, got True"),
    (
        "datasets",
        [],
        "datasets in params.yaml must name at least one of simulated, persona, pickafilter, pickapic_v1, pickapic_v2, "
        "summarize, own, got an empty list",
    ),
    (
        "datasets",
        ["personna"],
        "datasets.0 must be one of 'simulated', 'persona', 'pickafilter', 'pickapic_v1', 'pickapic_v2', "
        "'summarize', 'own', got 'personna'",
    ),
    ("datasets", ["own", "own"], "datasets must not repeat a dataset, got ['own', 'own']"),
    ("datasets", "own", "datasets must be a list, got 'own'"),
    ("source.persona", None, "source.persona must be text, got None"),
    ("source.persona", "", "source.persona must be text, not empty, got ''"),
    ("source.simulated", "drawn", "source.simulated must be one of 'generated', got 'drawn'"),
    (
        "hub.persona_repo",
        "evals",
        r"hub.persona_repo must be text of the form ^[\w.-]+/[\w.-]+$, got 'evals'",
    ),
    ("prepare.seed", -1, "prepare.seed must be at least 0, got -1"),
    ("prepare.simulated.concentration", 0, "prepare.simulated.concentration must be above 0, got 0"),
    ("prepare.simulated.min_distance", float("nan"), "min_distance must be a finite number, got nan"),
    ("prepare.simulated.concentration", float("inf"), "concentration must be a finite number, got inf"),
    ("prepare.simulated.adapt_pairs", 7, "prepare.simulated.adapt_pairs must be at least 20, the largest of"),
    ("prepare.persona.personas", [], "prepare.persona.personas must be a list of at least 1, got []"),
    ("prepare.persona.personas", ["art", "art"], "must not repeat a persona, got ['art', 'art']"),
    ("prepare.persona.personas", ["../art"], r"must be text of the form ^[\w-]+$, got '../art'"),
    ("prepare.persona.new_statements", 1.0, "prepare.persona.new_statements must be below 1, got 1.0"),
    ("prepare.own.ties", "toss", "prepare.own.ties must be one of 'drop', 'keep', got 'toss'"),
    ("split.own", "drawn", "split.own must be one of 'as_prepared', got 'drawn'"),
    ("split.own", None, "split.own must be a map of options, got None"),
    ("split.own.unseen_users", 0, "split.own.unseen_users must be above 0, got 0"),
    ("split.own.val", 0.9, "split.own.val + split.own.test must be below 1, got 0.9 + 0.2"),
    ("split.own.min_pairs", 1, "split.own.min_pairs must be at least 2, got 1"),
    (
        "encoder.persona",
        "clip",
        "hashed-words, classical, or start with open_clip:, sentence-transformers:, untrained-, got 'clip'",
    ),
    ("encoder.pickafilter.image", "resnet", "encoder.pickafilter.image must be one of all-MiniLM-L6-v2, "),
    ("encoder.pickafilter", {"text": "hashed-words"}, "encoder.pickafilter.image is missing"),
    ("encoder.own", 3, "encoder.own must be text, got 3"),
    ("recolour.persona", "warm", "recolour.persona must be one of 'none', got 'warm'"),
    ("recolour.pickafilter.cool", "blue", "recolour.pickafilter.cool must be text of the form ^#[0-9a-fA-F]"),
    ("recolour.pickafilter.beta", 1.5, "recolour.pickafilter.beta must be at most 1, got 1.5"),
    ("encode.on_bad_item", "ignore", "encode.on_bad_item must be one of 'fail', 'skip', got 'ignore'"),
    ("encode.workers", -1, "encode.workers must be at least 0, got -1"),
    ("encode.dtype", "bfloat16", "encode.dtype must be one of 'float32', 'float16', got 'bfloat16'"),
    ("encode.tokens_per_batch", 1, "encode.tokens_per_batch must be at least 16, got 1"),
    ("preset.own", "best", "preset.own must be one of 'ours', 'paper', 'authors', got 'best'"),
    ("head.persona.latent", 0, "head.persona.latent must be at least 1, got 0"),
    ("head.persona.model", None, "head.persona.model in params.yaml must be one of 'A', 'B', got None"),
    ("train.own.epochs", 0, "train.own.epochs must be at least 1, got 0"),
    ("train.own.learning_rate", float("nan"), "train.own.learning_rate must be a finite number, got nan"),
    ("train.own.learning_rate", "fast", "train.own.learning_rate must be a number, got 'fast'"),
    (
        "train.persona.loss",
        "hinge",
        "train.persona.loss must be 'logistic' with objective 'mixture', got 'hinge'",
    ),
    ("evaluate.shots", [], "evaluate.shots must be a list of at least 1, got []"),
    ("evaluate.shots", [0, 20], "evaluate.shots.0 must be at least 1, got 0"),
    (
        "evaluate.headline_shots",
        7,
        "evaluate.headline_shots must be one of evaluate.shots [1, 2, 5, 10, 20], got 7",
    ),
    ("evaluate.draws", 3, "evaluate.draws must be at least 20, got 3"),
]


@pytest.mark.parametrize(("key", "value", "message"), WRONG, ids=[f"{w[0]}={w[1]}" for w in WRONG])
def test_a_wrong_key_or_value_is_one_sentence(project, key, value, message):
    project.set({key: value})
    with pytest.raises(PipelineError, match=re.escape(message)) as caught:
        params.load()
    assert "params.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "key", ["datasets", "model.K", "evaluate", "head.own", "head.persona.latent", "train.own.restarts"]
)
def test_a_missing_key_is_named(project, key):
    project.drop(key)
    with pytest.raises(PipelineError, match=rf"^{key} is missing.*params.yaml"):
        params.load()


def test_null_is_the_presets_value(project):
    """The preset ours for model B fits a mixture; model A's does not."""
    values = params.load()
    assert values.head.persona["similarity"] is None
    head, fit = values.configs("persona")
    assert (head.model, head.K, head.similarity, fit.objective) == ("B", 3, "inner", "mixture")
    assert values.configs("simulated")[1].objective == "pal"


def test_a_set_option_goes_before_the_preset(project):
    project.set({"preset.persona": "paper", "head.persona.scale": 2, "model.K": 5})
    head, fit = params.load().configs("persona")
    assert (head.K, head.scale, head.dropout, fit.learning_rate) == (5, 2.0, 0.5, 1e-4)


def test_a_number_without_a_point_is_read_as_a_number(project):
    """YAML 1.1 reads 5e-3 as text."""
    text = SHIPPED.read_text(encoding="utf-8")
    project.text(text.replace("    learning_rate: null", "    learning_rate: 5e-3"))
    assert params.load().configs("own")[1].learning_rate == 0.005


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "params.yaml is not valid YAML: while parsing"),
        ("a: b: c", "params.yaml is not valid YAML: mapping values are not allowed"),
        ("datasets: !!python/object:os.system\n", "params.yaml is not valid YAML: could not determine"),
        ("- 1\n- 2\n", r"params.yaml must hold a map of options, got \[1, 2\]"),
        ("", "params.yaml must hold a map of options, got None"),
        ("3: 4\n", "3 in params.yaml is not a known key; keys are text"),
    ],
)
def test_what_is_no_map_of_options_is_refused(project, text, message):
    if text.startswith("3"):
        text += SHIPPED.read_text(encoding="utf-8")
    project.text(text)
    with pytest.raises(PipelineError, match=message) as caught:
        params.load()
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_refused(project):
    (project.root / "params.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(PipelineError, match=r"params.yaml is not valid YAML: .*0xff"):
        params.load()


def test_no_params_at_all_names_where_to_run(project):
    (project.root / "params.yaml").unlink()
    with pytest.raises(PipelineError, match=r"params.yaml is missing; run this in the repository's root"):
        params.load()
