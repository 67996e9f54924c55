"""A taste drawn for a notebook: plain HTML with styles inline, no script, everything escaped."""

from html import escape

BAR = "display:inline-block;height:0.8em;background:{};width:{:.1f}%"
CELL = "padding:1px 8px;text-align:{};white-space:nowrap;border:0"


def drawn(
    comparisons: int, model: str, weights: list[float], sd: list[float], effective_points: float | None
) -> str:
    """A table with a bar per prototype.

    Args:
        comparisons: Answers that went in.
        model: The model's fingerprint.
        weights: Shares of the prototypes; empty where the model is not at hand.
        sd: Their standard deviations.
        effective_points: Places where the person may well stand; None where the model is not at hand.
    """
    counted = f"{comparisons:,} comparison{'' if comparisons == 1 else 's'}"
    about = [f"Taste from {counted}", f"model {model[:8]}"]
    if effective_points is None:
        about.append("read without its model")
    else:
        about.append(f"as good as {effective_points:.1f} places to stand")
    rows = [_row(number, w, s) for number, (w, s) in enumerate(zip(weights, sd, strict=True), 1)]
    head = f"<caption style='text-align:left'>{escape(', '.join(about))}</caption>"
    return f"<table style='border-collapse:collapse'>{head}{''.join(rows)}</table>"


def _row(number: int, weight: float, sd: float) -> str:
    bar = f"<span style='{BAR.format('#4c78a8', 100 * weight)}'></span>"
    cells = [
        f"<td style='{CELL.format('left')}'>prototype {number}</td>",
        f"<td style='{CELL.format('left')};width:14em'>{bar}</td>",
        f"<td style='{CELL.format('right')}'>{weight:.2f} ± {sd:.2f}</td>",
    ]
    return f"<tr>{''.join(cells)}</tr>"
