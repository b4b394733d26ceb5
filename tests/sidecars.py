"""Records of finished cases: one that is sound, any that is, and what can go wrong with them."""

import json

from hypothesis import strategies as st
from odd_values import places, planted, without

from unet_pipeline.storage.ledger import digest_bytes
from unet_pipeline.storage.sidecar import (
    GateNote,
    Geometry,
    Grid,
    InputDigest,
    LabelChange,
    MaskFault,
    MemberFacts,
    OutputDigest,
    RunFacts,
    Sidecar,
    Traffic,
)

LABELS, PICTURE = digest_bytes(b"labels"), digest_bytes(b"picture")
_ROWS = ((1.5, 0.0, 0.0, -35.25), (0.0, 1.5, 0.0, 3.0), (0.0, 0.0, 2.0, 0.0), (0.0, 0.0, 0.0, 1.0))
_GRID = Grid((48, 42, 32), (1.5, 1.5, 2.0), "RAS", _ROWS)
FACTS = RunFacts(
    run_id="before",
    model="phantom",
    weights=digest_bytes(b"weights"),
    settings={"overlap": 0.5, "roi_size": [32, 32, 32], "decision": {"kind": "highest"}},
    settings_digest=digest_bytes(b"settings"),
    engine={"asked": "eager", "used": "eager"},
    labels={"0": "background", "1": "liver", "2": "spleen"},
    versions={"torch": "2.13.0"},
    postprocessing_ignored=("FillHolesd",),
    members=(
        MemberFacts("a", digest_bytes(b"a"), digest_bytes(b"config")),
        MemberFacts("b", digest_bytes(b"b"), digest_bytes(b"config")),
    ),
)
SOUND = Sidecar(
    written=(LABELS, PICTURE),
    run=FACTS,
    case="a",
    inputs=(
        InputDigest("image0", 5, None, digest_bytes(b"image")),
        InputDigest("mask", 4, "abc", digest_bytes(b"mask")),
    ),
    output=OutputDigest(6, LABELS, None),
    geometry=Geometry(_GRID, _GRID),
    gate=GateNote("warn", ("mask_empty",), 0.01, "Look.", ("mask: reorient",)),
    windows=8,
    windows_reused=2,
    tiles=1,
    dice={"1": 0.5, "2": None},
    seconds={"read": 0.1, "total": 1.5},
    bytes=Traffic(9, 13),
    mask_fault=MaskFault("mask_values", "The mask holds half labels."),
    label_changes=(LabelChange("largest:1", 1, 2, -30, -0.135),),
    statistics={"1": {"voxels": 30, "volume_ml": 0.135, "cut": "LR"}},
    memory_steps=("sums on the host",),
)

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
odd_texts = plain.map(json.dumps) | st.sampled_from(
    ["NaN", "-Infinity", "1e999", "9" * 5000, "1" + "0" * 400, "9007199254740992", "-1", "-0.1",
     "1.0", "8", "true", "null", "[]", "{}", '"8"', '""', "[null]", "[true]", '["a"]', '[["a", 1]]',
     '{"": null}', '{"a\\n": 1}', '"\\ud800"', '{"\\ud800": 0.5}', '"fail"', '"warn"', '"mask"',
     f'"{LABELS}\\n"', f'["{LABELS}"]', "[" * 500 + "]" * 500, "[" * 900 + "]" * 900,
     "[" * 10**5 + "]" * 10**5, '{"a":' * 900 + "0" + "}" * 900]
)  # fmt: skip


@st.composite
def damaged(draw, data):
    """The bytes of a record with a key less, with any JSON value anywhere, or cut anywhere."""
    way = draw(st.sampled_from(("key", "value", "cut", "hole")))
    if way in ("key", "value"):
        content = json.loads(data)
        place = draw(st.sampled_from([*places(content)][1:]))
        if way == "key":
            return json.dumps(without(content, place)).encode()
        text = json.dumps(planted(content, place, "HERE"))
        return text.replace('"HERE"', draw(odd_texts), 1).encode()
    begin = draw(st.integers(0, len(data) - 3))
    return data[:begin] + (b"" if way == "cut" else data[draw(st.integers(begin, len(data))) :])


def tables(keys, values):
    return st.dictionaries(keys, values, max_size=3)


def several(one):
    return st.lists(one, max_size=3).map(tuple)


counts, texts = st.integers(0, 2**53 - 1), st.text(max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
digests = st.binary(max_size=2).map(digest_bytes)
codes = st.sampled_from(("mask_empty", "a", "x" * 64))
names = st.text("aZ0_ .-", min_size=1, max_size=9)
roles = st.sampled_from(("image0", "image9999", "mask", "mask12345", "mask.voxels"))
etags = st.none() | texts
grids = st.builds(
    Grid, st.tuples(*[counts] * 3), st.tuples(*[numbers] * 3), texts,
    st.tuples(*[st.tuples(*[numbers] * 4)] * 4),
)  # fmt: skip
notes = st.builds(
    GateNote, st.just("pass"), several(codes), st.none() | numbers, texts, several(texts)
) | st.builds(
    GateNote, st.just("warn"), st.tuples(codes), st.none() | numbers, texts, several(texts)
)  # fmt: skip
sidecars = st.builds(
    Sidecar,
    written=several(digests),
    run=st.builds(
        RunFacts, texts, texts, digests, tables(texts, plain), digests, tables(texts, plain),
        tables(texts, texts), tables(texts, texts), several(texts),
        several(st.builds(MemberFacts, texts, digests, digests)),
    ),
    case=texts,
    inputs=several(st.builds(InputDigest, roles, counts, etags, digests)),
    output=st.builds(OutputDigest, counts, digests, etags),
    geometry=st.builds(Geometry, grids, grids),
    gate=notes,
    windows=counts,
    windows_reused=counts,
    tiles=counts,
    dice=st.none() | tables(names, st.none() | st.floats(0, 1)),
    seconds=tables(names, st.floats(0, 1e9)),
    bytes=st.builds(Traffic, counts, counts),
    mask_fault=st.none() | st.builds(MaskFault, codes, texts),
    statistics=tables(names, tables(names, st.floats(-1e12, 1e12) | st.sampled_from(("", "ILR")))),
    label_changes=several(
        st.builds(LabelChange, texts, counts, counts, st.integers(-(2**53) + 1, 2**53 - 1), numbers)
    ),
    memory_steps=several(texts),
)  # fmt: skip
