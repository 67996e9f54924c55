"""What marks that code of a file's ran."""

import os
from typing import Any

MARK = "ran"


class Trap:
    """Unpickled, it makes a file."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (MARK,)
