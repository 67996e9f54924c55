"""The page that `pal fit` leaves: what was read and what was measured, in one file for any browser."""

from collections.abc import Mapping
from html import escape
from typing import Any

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem;color:#222}
h1{font-size:1.5rem} p.big{font-size:1.2rem}
pre{background:#f4f4f4;white-space:pre-wrap;padding:1rem;overflow:auto;font-size:13px}
.bar{background:#e8eaf2;height:1.1rem;margin:.2rem 0 .8rem}
.bar i{display:block;height:100%;background:#4c62b0}
"""
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>PAL</title><style>{style}</style>
<h1>{title}</h1>
{body}
</html>
"""
NAMES = {
    "personal": "personal reward",
    "without_answers": "before any answer",
    "one_for_everyone": "one reward for everyone",
}


def render(metrics: Mapping[str, Any], summary: str) -> str:
    """The page.

    Args:
        metrics: What `pal fit` measured.
        summary: What was understood of the log.
    """
    parts = [f"<p class='big'>{escape(metrics['verdict'])}</p>"]
    titles = {"seen": "Held-out answers of people in the model", "unseen": "People who were held out"}
    for half, title in titles.items():
        if half in metrics:
            numbers = metrics[half]
            parts.append(f"<h2>{title} ({numbers['people']:,})</h2>")
            for name, words in NAMES.items():
                if name in numbers:
                    interval = f"{numbers[f'{name}_low']:.1%} to {numbers[f'{name}_high']:.1%}"
                    right = f"<b>{numbers[name]:.1%}</b> right <small>({interval})</small>"
                    bar = f"<div class='bar'><i style='width:{100 * numbers[name]:.1f}%'></i></div>"
                    parts.append(f"<div>{words}: {right}</div>{bar}")
    for name, values in metrics.get("by", {}).items():
        parts.append(f"<h2>By {escape(name)}</h2>")
        for value, numbers in values.items():
            parts.append(
                f"<div>{escape(value) or 'not known'} ({numbers['people']:,} people, {numbers['answers']:,} "
                f"answers): <b>{numbers['personal']:.1%}</b> right, one reward for everyone "
                f"{numbers['one_for_everyone']:.1%}</div>"
            )
    how = (
        f"{metrics['settings']}\nThe numbers are of the model in the folder measured; the one to use, in the "
        "folder model, was then fitted to all people and answers. Intervals are over people, 95 %."
    )
    parts.append(f"<h2>How</h2><pre>{escape(how)}</pre><h2>What was read</h2><pre>{escape(summary)}</pre>")
    title = f"{metrics['source']}: {metrics['people']:,} people, {metrics['comparisons']:,} comparisons"
    return PAGE.format(style=STYLE, title=escape(title), body="\n".join(parts))
