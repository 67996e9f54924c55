"""What evaluate found about a dataset, as it is written for the report, and read back."""

from collections.abc import Iterator
from typing import Any

from pipeline import paths
from pipeline.errors import PipelineError
from pipeline.storage.manifests import read_json

Evaluated = dict[str, Any]

_KEYS = ("users", "items", "test", "pairs", "shots", "model", "accuracy", "low", "high", "balanced")
_ROWS = [dict.fromkeys((*_KEYS, "worst_decile", "n_users", "n_pairs"))]
_ITEM = [dict.fromkeys(("prompt", "prompt_image", "response", "image", "score"))]
_ENCODER = dict.fromkeys(("name", "weights_sha256", "dim"))
SHAPE: Any = {  # what evaluate writes: the keys that must be there; a list's one entry speaks for all
    "dataset": None,
    "source": None,
    "notes": None,
    "published": None,
    "encoder": {"prompts": _ENCODER, "responses": _ENCODER},
    "head": {"K": None},
    "fit": dict.fromkeys(("objective", "grid_points")),
    "counts": None,
    "account": [dict.fromkeys(("stage", "read", "kept", "dropped", "details", "reasons"))],
    "split_table": None,
    "test": None,
    "accuracies": _ROWS,
    "tests": _ROWS,
    "filters": _ROWS,
    "never_seen": {"why": None, "pairs": None, "left_out": None, "accuracies": _ROWS},
    "stability": dict.fromkeys(
        (
            *("seeds", "agreement", "by_prototype", "same_groups", "same_answers", "true_groups"),
            *("n_groups", "dead", "outside"),
        )
    ),
    "plurality": None,
    "beside": None,
    "gallery": [dict.fromkeys(("prompt", "chosen", "rejected", "filtered", "group", "user"))],
    "users": [dict.fromkeys(("user_id", "users", "group", "weights", "accuracy"))],
    "prototypes": [{"prototype": None, "share": None, "most": _ITEM, "least": _ITEM}],
    "calibration": {
        "ece": None,
        "bins": [dict.fromkeys(("low", "high", "predicted", "observed", "count"))],
    },
    "training": [dict.fromkeys(("epoch", "loss", "val_loss", "val_accuracy"))],
    "truth": {
        "axes": None,
        "users": [dict.fromkeys(("user_id", "users", "group", "true", "predicted"))],
        "prototypes": [{"true": None}],
        "predicted_prototypes": None,
    },
}


def read(dataset: str) -> Evaluated:
    """Read what evaluate found about a dataset.

    Raises:
        PipelineError: If the file is missing or damaged, or lacks a key of SHAPE.
    """
    path, stage = paths.evaluated(dataset) / "evaluated.json", f"evaluate@{dataset}"
    evaluated: Evaluated = read_json(path, stage)
    for missing in _missing(evaluated, SHAPE):
        raise PipelineError(f"{path} has no {missing!r}; run `dvc repro -f {stage}`")
    return evaluated


def _missing(value: Any, shape: Any, where: str = "") -> Iterator[str]:
    """The keys of `shape` that `value` lacks, as dotted names. What is null in `value` lacks nothing."""
    if value is None or shape is None:
        return
    if isinstance(shape, list):
        for i, entry in enumerate(value):
            yield from _missing(entry, shape[0], f"{where}[{i}]")
        return
    for key, inner in shape.items():
        name = f"{where}.{key}".lstrip(".")
        if not isinstance(value, dict) or key not in value:
            yield name
        else:
            yield from _missing(value[key], inner, name)
