"""recolour: tables without filters pass byte by byte; with them a share of each user's pairs is filtered."""

import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import PipelineError, paths
from pipeline.datasets.base import ColourFilters
from pipeline.stages import recolour
from pipeline.storage import tables

COOL, WARM = "mix #0000ff 0.5", "mix #ff0000 0.5"


def filters(**changes):
    same = {"beta": 1.0, "cool": "#0000ff", "warm": "#ff0000", "strength": 0.5, "blend": "mix"}
    return ColourFilters(**{**same, **changes})


def image(n, filter=None):
    place = ("f" * 64, n // 4, n % 4, "jpg_0")
    names = ("file", "row_group", "row", "column")
    return {
        "item_id": tables.image_id(*place, filter), "modality": "image", "text": None, "filter": filter,
        **dict(zip(names, place, strict=True)),
    }  # fmt: skip


def study(per_user=(10, 7, 1), groups=("cool", "warm", "cool")):
    """Items and pairs: each user compares picture 0 with a picture of their own each time."""
    pairs, n = [], 0
    for user, (count, group) in enumerate(zip(per_user, groups, strict=True)):
        for _ in range(count):
            n += 1
            pairs.append(
                {"pair_id": 10 * n, "user_id": f"user {user}", "prompt": tables.text_id("a dog"),
                 "chosen": image(n)["item_id"], "rejected": image(0)["item_id"], "label": 1.0, "group": group}
            )  # fmt: skip
    items = pl.concat(
        [tables.text_items(["a dog"]), pl.DataFrame([image(k) for k in range(n + 1)])], how="diagonal"
    )
    return items, pl.DataFrame(pairs).with_columns(filtered=pl.lit(None, pl.String))


@pytest.fixture
def coloured(project):
    """Runs the stage on such a study with some knobs; returns items, pairs and the manifest."""

    def run(items, pairs, **knobs):
        folder = paths.prepared("pickafilter")
        tables.write_table(folder / tables.ITEMS, items)
        tables.write_table(folder / tables.PAIRS, pairs)
        project.set({"pickafilter.recolour": filters(**knobs).model_dump()})
        recolour.main("pickafilter")
        out = paths.recoloured("pickafilter")
        found = [tables.read_table(out / name, "") for name in (tables.ITEMS, tables.PAIRS)]
        texts = [frame.with_columns(pl.col(pl.Categorical).cast(pl.String)) for frame in found]
        return *texts, json.loads((out / "manifest.json").read_text())

    return run


def test_tables_without_images_pass_as_they_are_unless_they_are_damaged(small):
    recolour.main("own")
    before, after = (folder("own") / tables.PAIRS for folder in (paths.prepared, paths.recoloured))
    whole = before.read_bytes()
    assert after.read_bytes() == whole
    before.unlink()  # it may be the same file
    before.write_bytes(whole[:-10])
    with pytest.raises(PipelineError, match=r"pairs\.parquet is damaged .* run `dvc repro -f prepare@own`"):
        recolour.main("own")
    assert after.read_bytes() == whole


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=5),
    st.floats(0, 1),
    st.integers(0, 99),
    st.randoms(use_true_random=False),
)
def test_a_share_of_each_users_pairs_is_filtered_half_and_half_whatever_the_order(
    sizes, beta, seed, shuffler
):
    _, pairs = study(sizes, ["cool"] * len(sizes))
    chosen = recolour.choose(pairs, beta, seed)
    assert chosen.drop("filtered").equals(pairs.drop("filtered"))
    for user, size in enumerate(sizes):
        words = chosen.filter(pl.col("user_id") == f"user {user}")["filtered"]
        n_filtered = int(beta * size + 0.5)
        winners, losers = (int((words == word).sum()) for word in ("winner", "loser"))
        assert winners + losers == n_filtered
        assert abs(winners - losers) == n_filtered % 2
    order = list(range(len(pairs)))
    shuffler.shuffle(order)
    again = recolour.choose(pairs[order], beta, seed)
    assert again.sort("pair_id").equals(chosen)


def test_winners_get_their_groups_colour_and_losers_the_other(coloured):
    before, pairs = study()
    items, after, manifest = coloured(before, pairs)
    filter_of = dict(items.select("item_id", "filter").iter_rows())
    columns = ["item_id", "file", "row_group", "row", "column"]
    place, former = (
        {row[0]: row[1:] for row in each.select(columns).iter_rows()} for each in (items, before)
    )
    seen = set()
    assert after["pair_id"].to_list() == pairs["pair_id"].to_list()
    for side in ("chosen", "rejected"):  # a filtered picture lies where the plain one does
        assert [place[item] for item in after[side]] == [former[item] for item in pairs[side]]
    for pair in after.iter_rows(named=True):
        own, other = (COOL, WARM) if pair["group"] == "cool" else (WARM, COOL)
        wanted = (own, None) if pair["filtered"] == "winner" else (None, other)
        assert (filter_of[pair["chosen"]], filter_of[pair["rejected"]]) == wanted
        seen.add((pair["group"], pair["filtered"]))
    assert len(seen) == 4
    # 19 pictures and a text. All 18 pairs are filtered, 9 or so on the winner: its plain picture goes. Picture 0
    # stays plain where the winner is filtered, and has a copy in each colour.
    winners = int((after["filtered"] == "winner").sum())
    assert manifest["counts"] == {
        "read": 18, "kept": 18, "dropped": 0, "winner_filtered": winners, "loser_filtered": 18 - winners,
        "unfiltered": 0,
    }  # fmt: skip
    assert manifest["items"] == {"read": 20, "copies": winners + 2, "kept": 22, "dropped": winners}
    named = set(after["chosen"]) | set(after["rejected"]) | {tables.text_id("a dog")}
    assert set(items["item_id"]) == named
    assert items["item_id"].is_unique().all()
