"""The dashboard's files: what others wrote is what it was, and ours fit the page's CSP."""

import hashlib
import re
from pathlib import Path

import pytest

from tests.support.services import REPOSITORY

STATIC = REPOSITORY / "blocked_api" / "static"
VENDOR = STATIC / "vendor"
OURS = sorted(
    path
    for path in STATIC.rglob("*")
    if path.suffix in (".html", ".js", ".css") and VENDOR not in path.parents
)
_LISTED = re.compile(r"^\|[^|]+\|[^|]+\|[^|]+\| `([^`]+)` \| `([0-9a-f]{64})` \|$", re.MULTILINE)

FORBIDDEN = {
    "an inline script": re.compile(r"<script(?![^>]*\ssrc=)", re.IGNORECASE),
    "an inline style": re.compile(r"<style\b|\sstyle\s*=", re.IGNORECASE),
    "a handler in markup": re.compile(r"<[a-z][^>${]*\son[a-z]+\s*=\s*[\"']", re.IGNORECASE),
    "an address elsewhere": re.compile(r"https?://|\burl\(\s*[\"']?//|(?:src|href)=[\"']?//"),
    "text that becomes markup": re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|srcdoc",
        re.IGNORECASE,
    ),
    "text that becomes code": re.compile(r"\beval\(|new Function|javascript:"),
}


def test_vendored_files_are_the_ones_listed() -> None:
    listed = dict(_LISTED.findall((VENDOR / "README.md").read_text()))
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.iterdir()
        if path.name != "README.md"
    }
    assert found == listed


def test_there_are_files_to_look_at() -> None:
    assert {"index.html", "main.js", "dashboard.css"} <= {path.name for path in OURS}


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_our_files_fit_the_csp_and_make_no_markup_of_text(path: Path) -> None:
    text = path.read_text()
    assert [what for what, pattern in FORBIDDEN.items() if pattern.search(text)] == []


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("an inline script", "<script type=module>go()</script>"),
        ("an inline style", '<p style="color: red">'),
        ("a handler in markup", '<p onclick="go()">'),
        ("an address elsewhere", "@import 'https://elsewhere.example/x.css'"),
        ("an address elsewhere", '<img src="//elsewhere.example/x">'),
        ("text that becomes markup", "<p dangerouslySetInnerHTML=${{ __html: name }}>"),
        ("text that becomes markup", "p.innerHTML = name"),
        ("text that becomes code", "eval(name)"),
    ],
)
def test_what_must_not_be_there_would_be_found(what: str, text: str) -> None:
    assert FORBIDDEN[what].search(text)


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_what_our_files_name_is_there(path: Path) -> None:
    names = re.findall(r"(?:from |import\()'(\./[^']+)'", path.read_text())
    names += re.findall(r"(?:src|href)=\"(static/[^\"]+)\"", path.read_text())
    base = STATIC.parent if path.suffix == ".html" else path.parent
    assert [name for name in names if not (base / name).is_file()] == []
