"""Variables, error codes and properties: what a page names is there, and what is there is named."""

import ast
import fnmatch
import re
from collections.abc import Iterable, Iterator
from functools import cache

import pytest
from doc_pages import ROOT, files, first_cells, named, pages, spans

VARIABLE = re.compile(r"\bUNET_PIPELINE_[\w.]*")
CODE = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)+")
STRING = re.compile(r'"([a-z0-9_]+)"')
PROPERTY = re.compile(r"\bP\d+\b")
OURS = "tests/docs/test_names_of_pages.py"  # its examples are nobody's variables
PARTS = {"found", "wanted", "remedy"}


@cache
def source(*tops: str, ends: str = ".py") -> dict[str, str]:
    """The texts of the files below these folders."""
    names = [n for n in files() if n.split("/")[0] in tops and n.endswith(ends)]
    return {name: (ROOT / name).read_text() for name in names if not name.endswith(".md")}


def strange_variables(text: str, known: set[str]) -> set[str]:
    """The variables of a text that nothing reads; `UNET_PIPELINE_X_...` stands for several."""
    told = set(VARIABLE.findall(text))
    several = {name for name in told if name.endswith("...")}
    rest = {name.rstrip(".") for name in told - several} - known
    return rest | {n for n in several if not any(k.startswith(n.rstrip(".")) for k in known)}


def read_variables(*texts: str) -> set[str]:
    return {name.rstrip(".") for text in texts for name in VARIABLE.findall(text)} - {
        "UNET_PIPELINE_"
    }


@pytest.mark.parametrize("page", pages(), ids=named)
def test_variables_are_read(page):
    texts = {**source("unet_pipeline", "flows", "benchmarks", "tests"), **source("deploy", ends="")}
    texts.pop(OURS)
    assert strange_variables(page.read_text(), read_variables(*texts.values())) == set()


def test_variables_that_are_read_are_told():
    texts = {**source("unet_pipeline", "flows"), **source("deploy", ends="")}
    told = read_variables(*(page.read_text() for page in pages()))
    assert read_variables(*texts.values()) - told == set()


def test_a_broken_variable_is_seen():
    known = {"UNET_PIPELINE_SHARED_DATA"}
    text = "is there (`UNET_PIPELINE_0.98 with eager`), UNET_PIPELINE_SHARED_DATA."
    assert strange_variables(text, known) == {"UNET_PIPELINE_0.98"}


@cache
def codes() -> frozenset[str]:
    """The codes of all errors and findings; `*` where a part of one is only known in a run."""
    trees = [ast.parse(text) for text in source("unet_pipeline", "flows").values()]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    takers = {name for node in nodes for name in _takes_a_code(node)}
    constants = {
        target.id: node.value
        for node in nodes
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found = set()
    for node in nodes:
        if isinstance(node, ast.Call) and (_name(node.func) in takers or _is_error(node)):
            first = [k.value for k in node.keywords if k.arg == "code"] or node.args[:1]
            found |= {code for one in first for code in _texts(one, constants)}
    return frozenset(found)


def _is_error(call: ast.Call) -> bool:
    return {k.arg for k in call.keywords} >= PARTS


def _takes_a_code(node: ast.AST) -> Iterator[str]:
    """The name of a function or a dataclass whose first argument is a code."""
    if isinstance(node, ast.FunctionDef) and node.args.args and node.args.args[0].arg == "code":
        yield node.name
    if isinstance(node, ast.ClassDef):
        fields = [one.target for one in node.body if isinstance(one, ast.AnnAssign)]
        if fields and isinstance(fields[0], ast.Name) and fields[0].id == "code":
            yield node.name


def _name(node: ast.expr) -> str:
    return getattr(node, "id", None) or getattr(node, "attr", "")


def _texts(node: ast.expr, constants: dict[str, ast.expr]) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=one, orelse=other):
            yield from _texts(one, constants)
            yield from _texts(other, constants)
        case ast.JoinedStr(values=parts):
            yield "".join(p.value if isinstance(p, ast.Constant) else "*" for p in parts)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            if isinstance(constant := constants.get(name), ast.Constant):
                yield constant.value


def fits(word: str, known: Iterable[str]) -> bool:
    """Say whether a word is one of the known, in which `*` stands for a part."""
    return word in known or any(fnmatch.fnmatchcase(word, one) for one in known if "*" in one)


@pytest.mark.parametrize("page", pages(), ids=named)
def test_codes_of_tables_are_given(page):
    cells = first_cells(page.read_text(), "code", "you see")
    told = {span for cell in cells for span in spans(cell) if CODE.fullmatch(span)}
    known = codes() | set(STRING.findall("".join(source("unet_pipeline").values())))
    assert {word for word in told if not fits(word, known)} == set()


def test_codes_that_are_given_are_told():
    told = {span for page in pages() for span in spans(page.read_text())}
    assert {c for c in codes() - told if "*" not in c or not fnmatch.filter(told, c)} == set()


def test_properties_that_are_cited_are_told():
    texts = [*source("unet_pipeline", "flows", "tests").values(), *(p.read_text() for p in pages())]
    cited = {name for text in texts for name in PROPERTY.findall(text)}
    glossary = (ROOT / "docs/glossary.md").read_text()
    assert cited == set(first_cells(glossary, "property"))
