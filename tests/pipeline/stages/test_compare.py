"""compare: methods on a toy, one of which cannot be fitted."""

import json

from pal.errors import PalError
from pal.methods import METHODS
from pal.methods.base import Method
from pipeline import paths
from pipeline.stages import compare, report
from pipeline.storage.tables import read_json


def test_a_method_that_cannot_be_fitted_is_left_out_with_its_reason(small, monkeypatch, capsys):
    def refuse(task):
        raise PalError("no <b>such</b> thing")

    monkeypatch.setitem(METHODS, "refuses", Method("refuses", "", "", refuse, personal=True))
    small.set({"compare.methods": ["bt", "refuses", "mixed_effects"]})
    compare.main("own")
    found = read_json(paths.compared("own"), "")
    assert found["notes"] == ["refuses was left out: no <b>such</b> thing"]
    assert {row["method"] for row in found["rows"]} == {"bt", "mixed_effects"}
    assert json.loads(paths.metrics("compare/own").read_text())["verdict"] == found["verdict"]
    assert found["verdict"] in capsys.readouterr().out
    report.main()
    page = paths.REPORT.with_name("own.html").read_text()
    assert "does personalising pay?" in page
    assert "no &lt;b&gt;such&lt;/b&gt; thing" in page
