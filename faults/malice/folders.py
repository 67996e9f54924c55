"""Encoders' folders, and packages that say they hold one."""

import io
import json
import pickle
import stat
import struct
import zipfile
from typing import Any

from faults.malice.traps import Trap


def folders() -> dict[str, dict[str, bytes]]:
    """What encoders' folders name that must not be run or read."""

    def modules(*kinds: str, path: str = "") -> bytes:
        return json.dumps([{"type": kind, "path": path} for kind in kinds]).encode()

    code = b"import os; os.mkdir('ran')\n"
    auto = {"auto_map": {"AutoModel": "evil.Evil"}, "hidden_size": 4, "model_type": "evil"}
    return {
        "weights in a pickle": {"pytorch_model.bin": pickle.dumps(Trap())},
        "a module of its own": {"modules.json": modules("evil.Evil"), "evil.py": code},
        "a module outside": {
            "modules.json": modules("sentence_transformers.models.Transformer", path="../..")
        },
        "a module of the library's that is not run": {
            "modules.json": modules("sentence_transformers.models.CLIPModel")
        },
        "code named in its config": {"config.json": json.dumps(auto).encode(), "evil.py": code},
    }


def archives() -> dict[str, bytes]:
    """Packages with members that lead elsewhere or are not what they say."""
    link = zipfile.ZipInfo("model/config.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    entries: dict[str, list[tuple[Any, bytes]]] = {
        "a member with ..": [("model/model.safetensors", b"w"), ("model/../../../ran/x.json", b"1")],
        "an absolute member": [("model/model.safetensors", b"w"), ("/ran/x.json", b"1")],
        "a member with backslashes": [("model/model.safetensors", b"w"), ("model\\..\\ran.json", b"1")],
        "a link": [("model/model.safetensors", b"w"), (link, b"/etc/passwd")],
        "100,000 members": [(f"model/{n}.json", b"") for n in range(100_000)],
        "other weights": [("model/model.safetensors", b"w")],
        "no weights": [("model/config.json", b"{}")],
    }
    found = {}
    for name, members in entries.items():
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for member, content in members:
                archive.writestr(member, content)
        found[name] = out.getvalue()
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/model.safetensors", b"w")
        archive.writestr("model/vocab.txt", bytes(20_000_000))
    lies = bytearray(bomb.getvalue())
    for place in range(len(lies) - 4):  # it says 100 bytes where 20 MB are
        if lies[place : place + 4] == struct.pack("<I", 20_000_000):
            lies[place : place + 4] = struct.pack("<I", 100)
    huge = bomb.getvalue().replace(struct.pack("<I", 20_000_000), struct.pack("<I", 0xFFFF_FFF0))
    return {
        **found,
        "sizes that lie": bytes(lies),
        "members of 4 GB each": huge,
        "cut off": found["other weights"][:-9],
    }
