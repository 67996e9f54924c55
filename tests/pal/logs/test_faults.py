"""Logs that cannot be read: one sentence each, which says where and what to do."""

import json

import pytest

from pal import PalError
from pal.logs.columns import parse_columns
from pal.logs.shapes import read_log

HEAD = "user_id,prompt,chosen,rejected\n"


def talk(*roles):
    return [{"role": role, "content": f"{role} {at}"} for at, role in enumerate(roles)]


FAULTS = {
    "two users": ("annotator,customer,user,prompt,chosen,rejected\na,1,x,q,s,n\na,1,y,q,s,n\n", {},
                  r"several columns that could be the user, 'user', 'annotator'; say which by --columns"),
    "no user": ("who,prompt,chosen,rejected\na,q,s,n\n", {}, "must have a column that says who answered"),
    "no preference": ("user,prompt,answer\na,q,s\n", {}, "must say what was preferred: by columns chosen"),
    "no such column": (f"{HEAD}a,q,s,n\n", {"columns": "prompt=frage"}, "has no column 'frage'; it has 'user_id'"),
    "no such role": (f"{HEAD}a,q,s,n\n", {"columns": "wer=frage"}, "--columns must name roles"),
    "0 or 1": ("user,prompt,answer_a,answer_b,choice\na,q,s,n,0\na,q,s,n,1\n", {}, "--values '0=a,1=b'"),
    "unknown winner": ("user,prompt,answer_a,answer_b,choice\na,q,s,n,x\na,q,s,n,y\n", {},
                       r"choice in row 1 of a.csv \(and 1 more row\) must say which response won, got 'x' \(of 'x', 'y'\)"),
    "equal ratings": ("user,item,rating\na,s,3\na,n,3\n", {}, r"must differ within a person by 0.5 of the person's standard deviations, got none"),
    "thumbs of other words": ("user,prompt,completion,label\na,q,s,meh\na,q,n,fine\n", {}, "fine=1,meh=0"),
    "thumbs without pairs": ("user,prompt,completion,label\na,q,s,true\na,p,n,false\n", {}, "make no pair"),
    "ranking of others": ("user,prompt,response_a,response_b,ranking\na,q,s,n,C>D\n", {}, "names other responses"),
    "label": (f"{HEAD[:-1]},label\na,q,s,n,7\n", {}, r"label in row 1 of a.csv must lie in \[0, 1\], got '7'"),
    "one way": (f"{HEAD}a,q,s,s\n", {}, r"got none \(1 that compare a response with itself\)"),
    "not the assistant": (json.dumps([{"user": "a", "chosen": talk("user", "assistant", "user"),
                                       "rejected": talk("user", "assistant")}]), {},
                          "a conversation that does not end with the assistant"),
    "nothing at a path": ('[{"prompt": "q", "x": [{"who": "a"}], "chosen": "s", "rejected": "n"}]',
                          {"columns": "user_id=x[].whom"}, r"holds nothing at x\[\].whom in any row"),
    "lists that do not match": ('[{"prompt": "q", "x": ["a", "b"], "y": [1], "answer_a": "s", "answer_b": "n"}]',
                                {"columns": "user_id=x[],winner=y[]"}, r"x\[\] and y\[\] in row 1 of a.csv must have"),
    "responses by name": ('[{"user": "a", "responses": {"s": "so", "n": "no"}, "ranking": ["s", "n"]}]', {},
                          "must say what was preferred"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_told(fault, tmp_path):
    data, options, sentence = FAULTS[fault]
    (tmp_path / "a.csv").write_bytes(data if isinstance(data, bytes) else data.encode())
    with pytest.raises(PalError, match=sentence):
        read_log(tmp_path / "a.csv", parse_columns(options.get("columns", "")))


def test_missing_file_is_told(tmp_path):
    with pytest.raises(PalError, match=r"is not there, and matches no file that ends in \.csv"):
        read_log(tmp_path / "b.csv")


def test_few_malformed_rows_are_left_out_by_their_numbers(tmp_path):
    rows = [f"u{n},q,s,n" for n in range(20)]
    rows[3] += ",more"
    (tmp_path / "a.csv").write_text(f"{HEAD}{chr(10).join(rows)}\n\nu,q,s,s\n,q,s,n\n")
    found = read_log(tmp_path / "a.csv")
    assert [row[:2] for row in found.rejected.rows()] == [("a.csv", 4), ("a.csv", 21), ("a.csv", 22)]
    assert "put quotes around" in found.rejected["reason"][0]
    assert found.pairs["#row"].to_list() == [1, 2, 3, *range(5, 21)]


def test_folder_of_files_in_several_encodings(tmp_path):
    (tmp_path / "a.csv").write_text(f"{HEAD}ann,q,über,no\n", "utf-8")
    (tmp_path / "b.csv").write_text(f"{HEAD}bob,q,über,no\n", "cp1252")
    found = read_log(tmp_path)
    assert found.pairs["chosen"].to_list() == ["über", "über"]
    assert found.said == ["b.csv is Windows-1252"]
    assert read_log(tmp_path / "[ab].csv").pairs.equals(found.pairs)
