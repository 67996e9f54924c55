"""compare: methods on a toy, restarted where it was killed; without methods an empty table at once."""

import json
import subprocess
import sys

import pytest

from pal.errors import PalError
from pal.methods.base import Method
from pipeline import PipelineError, params, paths
from pipeline.stages import compare, report
from pipeline.storage.manifests import read_json


def test_without_methods_the_table_is_empty_and_torch_is_not_loaded(small):
    program = "import sys; from pipeline.stages import compare; compare.main('own'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert read_json(paths.compared("own"), "") == {"answer": "", "verdict": "", "rows": [], "notes": []}
    assert json.loads(paths.metrics("compare/own").read_text()) == {}


def test_a_run_that_was_stopped_goes_on_with_what_is_missing(small, monkeypatch, capsys):
    """One method cannot be fitted, one stops the run at first; the finished one is not fitted again."""
    from pal.methods import METHODS
    from pal.methods.mixed_effects import BT, MIXED_EFFECTS

    fitted = []

    def learn(task):
        fitted.append("bt")
        return BT.learn(task)

    def stop(task):
        raise KeyboardInterrupt

    def refuse(task):
        raise PalError("no <b>such</b> thing")

    for name, how in (("bt", learn), ("stops", stop), ("refuses", refuse)):
        monkeypatch.setitem(METHODS, name, Method(name, "", "", how, personal=name != "bt"))
    small.set({"compare.methods": ["bt", "refuses", "stops"]})
    with pytest.raises(KeyboardInterrupt):
        compare.main("own")
    monkeypatch.setitem(METHODS, "stops", MIXED_EFFECTS)
    compare.main("own")
    assert fitted == ["bt"]
    found = read_json(paths.compared("own"), "")
    assert found["notes"] == ["refuses was left out: no <b>such</b> thing"]
    assert {row["method"] for row in found["rows"]} == {"bt", "stops"}
    assert json.loads(paths.metrics("compare/own").read_text())["verdict"] == found["verdict"]
    assert found["verdict"] in capsys.readouterr().out
    report.main()
    page = paths.REPORT.with_name("own.html").read_text()
    assert "does personalising pay?" in page
    assert "no &lt;b&gt;such&lt;/b&gt; thing" in page


def test_an_unknown_method_is_one_sentence(small):
    small.set({"compare.methods": ["bt", "magic"]})
    with pytest.raises(PipelineError, match=r"compare: methods must be some of popularity, .*, got 'magic'"):
        params.load()
