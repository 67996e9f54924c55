"""The stage encode with an encoder that costs nothing, in a process that imports little (`encoding.warm`)."""

import json
import re
import time
import zlib
from pathlib import Path

import numpy as np

DIM = 384


class Checksums:
    """A text encoder whose vectors are a text's checksum times a fixed row."""

    def lengths(self, texts: list[str]) -> list[int]:
        """Numbers of tokens, roughly."""
        return [1 + len(text) // 5 for text in texts]

    def encode(self, texts: list[str]) -> np.ndarray:
        """Vectors of texts."""
        sums = np.array([zlib.crc32(text.encode()) for text in texts], dtype=np.float32)
        return np.outer(sums / 2**32, np.linspace(-1, 1, DIM, dtype=np.float32))


def main() -> None:
    """Encode the items in the current folder; print the seconds and the largest memory."""
    from pal import encoders
    from pipeline.stages import encode

    described = encoders.Described("checksums", DIM, "", "", "checksum times a row", None, "model_free")
    encoders.describe, encoders.load = lambda *_, **__: described, lambda described, device: Checksums()
    start = time.perf_counter()
    encode.main("own")
    seconds = time.perf_counter() - start
    # Not ru_maxrss: a process inherits that from the one that started it.
    kilobytes = int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0])
    print(json.dumps({"seconds": seconds, "GB": kilobytes * 1024 / 1e9}))


if __name__ == "__main__":
    main()
