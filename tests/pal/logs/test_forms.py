"""More than forty logs of different shape and dialect, after the schemas of published sets: read right, each."""

import gzip
import io
import json

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from pal.logs.columns import parse_columns
from pal.logs.shapes import read_log

X, Y = ("ann", "why?", "so", "no", 1.0), ("bob", "why?", "no", "so", 1.0)


def said(role, content):
    return {"role": role, "content": content}


def asked(content):
    return [said("user", "why?"), said("assistant", content)]


def lines(*rows):
    return "\n".join(map(json.dumps, rows)).encode()


def parquet(*rows):
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), out)
    return out.getvalue()


def arrow(*rows):
    out = io.BytesIO()
    feather.write_feather(pa.Table.from_pylist(list(rows)), out)
    return out.getvalue()


def zst(data):
    return pa.Codec("zstd").compress(data, asbytes=True)


PAIR = b"user_id,prompt,chosen,rejected\nann,why?,so,no\nbob,why?,no,so\n"
DUEL = b"annotator,instruction,response_1,response_2,preference\nann,why?,so,no,1\nbob,why?,so,no,2\n"
TALK = [{"user": user, "prompt": [said("user", "why?")], "chosen": [said("assistant", c)],
         "rejected": [said("assistant", r)]} for user, _, c, r, _ in (X, Y)]  # fmt: skip
ARENA = [{"question_id": "9f", "model_a": "m", "model_b": "n", "winner": winner, "judge": user, "turn": 1,
          "conversation_a": asked("so"), "conversation_b": asked("no"), "language": "English", "tstamp": 1.6e9}
         for user, winner in (("ann", "model_a"), ("bob", "model_b"), ("eve", "tie (bothbad)"))]  # fmt: skip
# Name of the file, its bytes, options (--columns, --values), and the comparisons; None: those of PAIR.
LOGS = {
    "pair": ("a.csv", PAIR, {}, None),
    "pair, byte order mark": ("a.csv", b"\xef\xbb\xbf" + PAIR, {}, None),
    "pair, semicolons": ("a.csv", PAIR.replace(b",", b";"), {}, None),
    "pair, tabs": ("a.tsv", PAIR.replace(b",", b"\t"), {}, None),
    "pair, bars": ("a.txt", PAIR.replace(b",", b"|"), {}, None),
    "pair, UTF-16": ("a.csv", PAIR.decode().encode("utf-16"), {}, None),
    "pair, UTF-16 without a mark": ("a.csv", PAIR.decode().encode("utf-16-le"), {}, None),
    "pair, Windows-1252": ("a.csv", b"user,prompt,chosen,rejected\nann,\xfcber,so,no\n", {},
                           [("ann", "über", "so", "no", 1.0)]),
    "pair, gzip": ("a.csv.gz", gzip.compress(PAIR), {}, None),
    "pair, zstd": ("a.csv.zst", zst(PAIR), {}, None),
    "pair, gzip by another name": ("a.csv", gzip.compress(PAIR), {}, None),
    "pair, carriage returns": ("a.csv", PAIR.replace(b"\n", b"\r\n"), {}, None),
    "pair, JSON list": ("a.json", json.dumps([dict(zip(("user", "prompt", "chosen", "rejected"), row[:4],
                                                         strict=True)) for row in (X, Y)]).encode(), {}, None),
    "pair, JSON columns": ("a.json", json.dumps({"user": ["ann", "bob"], "prompt": ["why?"] * 2,
                           "chosen": ["so", "no"], "rejected": ["no", "so"]}).encode(), {}, None),
    "pair, camel case": ("a.csv", b"userId,prompt,chosen,rejected\n7,why?,so,no\n", {},
                         [("7", "why?", "so", "no", 1.0)]),
    "pair, ids that became floats": ("a.csv", b"user_id,prompt,chosen,rejected\n7.0,q,so,no\n7,q,no,so\n", {},
                                     [("7", "q", "so", "no", 1.0), ("7", "q", "no", "so", 1.0)]),
    "pair, labels": ("a.csv", b"user_id,prompt,chosen,rejected,label\nann,q,so,no,0.8\nbob,q,so,no,0.25\n", {},
                     [("ann", "q", "so", "no", 0.8), ("bob", "q", "no", "so", 0.75)]),
    "pair, messages": ("a.jsonl", lines(*TALK), {}, None),
    "pair, messages in Parquet": ("a.parquet", parquet(*TALK), {}, None),
    "pair, messages in Arrow": ("a.arrow", arrow(*TALK), {}, None),
    "pair, implicit prompt": ("a.jsonl", lines(*({"worker": u, "chosen": asked(c), "rejected": asked(r)}
                                                 for u, _, c, r, _ in (X, Y))), {}, None),
    "pair, context and last turns": ("a.jsonl", lines(*(  # PersonalRewardBench
        {"user_id": u, "context": [said("user", "why?")], "chosen": said("assistant", c), "chosen_score": 9,
         "rejected": said("assistant", r), "rejected_score": 3} for u, _, c, r, _ in (X, Y))), {}, None),
    "pair, transcripts": ("a.jsonl", lines(*({  # HH-RLHF
        "worker": u, "chosen": f"\n\nHuman: why?\n\nAssistant: {c}", "rejected": f"\n\nHuman: why?\n\nAssistant: {r}"}
        for u, _, c, r, _ in (X, Y))), {}, None),
    "pair, as OpenAI tunes by": ("a.jsonl", lines(*({
        "user": u, "input": {"messages": [said("user", "why?")], "tools": []},
        "preferred_output": [said("assistant", c)], "non_preferred_output": [said("assistant", r)]}
        for u, _, c, r, _ in (X, Y))), {}, None),
    "duel, 1 and 2": ("a.csv", DUEL, {}, None),
    "duel, tie": ("a.csv", DUEL + b"eve,why?,so,no,tie\n", {}, None),
    "duel, arena": ("a.jsonl", lines(*ARENA), {}, None),
    "duel, arena in Parquet": ("a.parquet", parquet(*ARENA), {}, None),
    "duel, -3 to 3": ("a.jsonl", lines(  # HelpSteer3, which has no user
        {"annotator_id": "ann", "context": [said("user", "why?")], "response1": "so", "response2": "no",
         "overall_preference": -3},
        {"annotator_id": "bob", "context": [said("user", "why?")], "response1": "so", "response2": "no",
         "overall_preference": 3}), {}, None),
    "duel, graded words of several people a row": ("a.jsonl", lines(  # MultiPref
        {"comparison_id": "c", "text": "why?", "prompt": "why?", "completion_a": "so", "completion_b": "no",
         "model_a": "m", "annotations": [
             {"evaluator": "ann", "overall_pref": "A-is-clearly-better"},
             {"evaluator": "bob", "overall_pref": "B-is-slightly-better"},
             {"evaluator": "eve", "overall_pref": "Tie"}]}), {}, [X, (*Y[:4], 0.75)]),
    "duel, A>B": ("a.csv", b"rater,query,left_answer,right_answer,verdict\nann,why?,so,no,left>right\n"
                  b"bob,why?,so,no,right>left\n", {}, None),
    "duel, the winner's text": ("a.csv", b"rater,query,option_a,option_b,choice\nann,why?,so,no,so\n"
                                b"bob,why?,so,no,no\n", {}, None),
    "choice of three": ("a.csv", b"user,prompt,response_a,response_b,response_c,best\nann,why?,so,no,ha,a\n", {},
                        [X, ("ann", "why?", "so", "ha", 1.0)]),
    "choice in a list": ("a.jsonl", lines({"user": "ann", "prompt": "why?", "responses": ["so", "no"],
                                           "choice": "so"}), {}, [X]),
    "choice in a list of pictures": ("a.parquet", parquet(
        {"user": "ann", "prompt": "why?", "images": [{"bytes": b"so", "path": None}, {"bytes": b"no", "path": None}],
         "winner": 1}), {}, [("ann", "why?", b"so", b"no", 1.0)]),
    "choice by a number from 0": ("a.csv", b"user,prompt,response_1,response_2,response_3,winner\nann,why?,so,no,no,0\n"
                                  b"bob,why?,no,so,no,1\n", {}, [X, X, ("bob", *X[1:]), ("bob", *X[1:])]),
    "ranking in letters of numbered columns": ("a.csv", b"user,prompt,response_1,response_2,ranking\nann,why?,so,no,A>B\n"
                                               b"bob,why?,so,no,B>A\n", {}, None),
    "ranking of a list": ("a.jsonl", lines({"worker_id": "ann", "prompt": "why?", "ranking": "B>A=C",
                                            "responses": ["no", "so", "no"]}), {}, [X, X]),
    "ranking that is the list": ("a.jsonl", lines({"user": "ann", "prompt": "why?", "ranking": ["so", "no"]},
                                                  {"user": "bob", "prompt": "why?", "ranking": ["no", "so"]}),
                                 {}, None),
    "ranks of pictures": ("a.json", json.dumps([  # HPDv2's test
        {"prompt": "why?", "image_path": ["so", "no"], "raw_annotations": [
            {"rank": [1, 2], "user_hash": "ann"}, {"rank": [2, 1], "user_hash": "bob"}]}]).encode(), {}, None),
    "a score for each": ("a.csv", b"user,prompt,answer_1,answer_2,score_1,score_2\nann,why?,so,no,9,1\n"
                         b"bob,why?,so,no,2,3\n", {}, None),
    "ratings": ("a.csv", b"user_id,prompt,model_response,score\nann,why?,so,90\nann,why?,no,10\n"
                b"bob,why?,so,1\nbob,why?,no,2\n", {}, None),
    "ratings without prompts": ("a.csv", b"user,item,rating\nann,so,5\nann,no,1\n", {},
                                [("ann", None, "so", "no", 1.0)]),
    "ratings of what is named otherwise": ("a.csv", b"user,film,rating,time\nann,so,5,1\nann,no,1,2\n", {},
                                           [("ann", None, "so", "no", 1.0)]),
    "ratings with decimal commas": ("a.csv", b"user;prompt;response;rating\nann;why?;so;4,5\nann;why?;no;4,25\n",
                                    {}, [X]),
    "thumbs": ("a.csv", b"user,prompt,completion,label\nann,why?,so,True\nann,why?,no,False\n", {}, [X]),
    "thumbs in other words": ("a.csv", b"user,prompt,completion,feedback\nann,why?,so,thumbs_up\n"
                              b"ann,why?,no,thumbs_down\n", {}, [X]),
    "winner 0 or 1": ("a.csv", b"user,history,human_ref_A,human_ref_B,labels\nann,why?,so,no,1\n"  # SHP
                      b"bob,why?,so,no,0\n", {"values": {"1": "a", "0": "b"}}, None),
    "columns of other names": ("a.csv", b"wer;frage;gut;schlecht\nann;why?;so;no\nbob;why?;no;so\n",
                               {"columns": "user_id=wer,prompt=frage,chosen=gut,rejected=schlecht"}, None),
    "people and answers in lists of their own": ("a.jsonl", lines({  # Argilla
        "prompt": "why?", "response_1": "so", "response_2": "no", "preference.responses.users": ["ann", "bob"],
        "preference.responses": ["response_1", "response_2"]}),
        {"columns": "user_id=preference.responses.users[],winner=preference.responses[]"}, None),
    "a path in nested cells": ("a.jsonl", lines({"prompt": {"messages": [said("user", "why?")]},  # Collective
        "responses": [{"response_index": "A", "messages": [said("assistant", "so")]},
                      {"response_index": "B", "messages": [said("assistant", "no")]}],
        "metadata": {"assessments": [
            {"annotator_id": "ann", "ranking_blocks": {"personal": [{"ranking": "A>B"}]}},
            {"annotator_id": "bob", "ranking_blocks": {"personal": [{"ranking": "B>A"}]}}]}}),
        {"columns": "user_id=metadata.assessments[].annotator_id,prompt=prompt.messages,"
                    "ranking=metadata.assessments[].ranking_blocks.personal[].ranking"}, None),
}  # fmt: skip


@pytest.mark.parametrize("log", LOGS)
def test_log_is_read_right(log, tmp_path):
    name, data, options, pairs = LOGS[log]
    (tmp_path / name).write_bytes(data)
    if "columns" in options:
        options = {**options, "columns": parse_columns(options["columns"])}
    found = read_log(tmp_path / name, **options)
    rows = found.pairs.select("user_id", "prompt", "chosen", "rejected", "label").rows()
    assert rows == ([X, Y] if pairs is None else pairs)
    assert name.removesuffix(".gz").removesuffix(".zst") in found.summary()


def test_at_least_forty_and_most_without_an_option():
    assert len(LOGS) >= 40
    assert sum(not options for _, _, options, _ in LOGS.values()) >= 30
