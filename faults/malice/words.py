"""JSON and YAML that is deep, endless or a command."""

import pickle

from faults.malice.traps import Trap


def jsons() -> dict[str, bytes]:
    """JSON that is none, or that is too deep or too long."""
    return {
        "deep lists": b"[" * 100_000,
        "deep lists that end": b"[" * 900 + b"]" * 900,
        "deep objects": b'{"a":' * 100_000,
        "a number of a million digits": b"[" + b"9" * 1_000_000 + b"]",
        "a pickle": pickle.dumps(Trap()),
        "NULs": bytes(1000),
        "UTF-16": '{"a": 1}'.encode("utf-16"),
        "infinity": b"[Infinity, NaN]",
    }


def params() -> dict[str, str]:
    """YAML that runs something, holds itself, or grows when it is read."""
    laughs = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
    )
    return {
        "a command as a tag": "datasets: !!python/object/apply:os.mkdir [ran]\n",
        "a module as a tag": "datasets: !!python/module:evil\n",
        "a new object as a tag": "!!python/object/new:os.mkdir [ran]\n",
        "a billion laughs": laughs,
        "a billion laughs as a value": laughs + "datasets: *a9\n",
        "a billion laughs as a key": laughs + "stages: *a9\n",
        "a list that holds itself": "datasets: &a [*a]\nstages: &b {outs: *b}\n",
        "deep lists": "datasets: " + "[" * 10_000,
        "deep lists that end": "datasets: " + "[" * 2_000 + "]" * 2_000 + "\n",
        "a merge of itself": "a: &a\n  <<: *a\n",
        "a number of a million digits": f"model: {{K: {'9' * 1_000_000}}}\n",
        "a NUL": "datasets: [\0]\n",
        "a date that is none": "datasets: [2000-99-99]\n",
        "a number in base 60": f"datasets: [{'1:' * 20_000}1]\n",
    }
