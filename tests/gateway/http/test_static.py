"""Files for browsers: found by their path alone, compressed, and not sent to those who have them."""

import gzip
from pathlib import Path

import pytest

from gateway.http.static import FOREVER, REVALIDATE, File, Folder
from gateway.types.request import Head

TEXT = b"let it be long enough to be compressed; " * 20


def head(*, accept_encoding: str = "", if_none_match: str = "") -> Head:
    made = Head()
    made.accept_encoding, made.if_none_match = accept_encoding, if_none_match
    return made


def header(headers: bytes, name: str) -> str | None:
    lines = dict(line.split(": ", 1) for line in headers.decode().splitlines())
    return lines.get(name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "index.html": b'<script src="/page/main.js"></script><a href="/docs">',
        "main.js": TEXT,
        "deep/part.mjs": b"export {}",
        "main.test.js": b"",
        "types.d.ts": b"",
        "package.json": b"{}",
        "node_modules/some/index.js": b"",
        "tests/all.js": b"",
        ".hidden/secret.js": b"",
        ".secret.js": b"",
        "__init__.py": b"",
        "README": b"",
    }
    for name, content in files.items():
        path = tmp_path / "page" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "page"


def test_only_what_browsers_need_is_served(folder: Path) -> None:
    assert sorted(Folder(folder, "/page/")) == ["deep/part.mjs", "index.html", "main.js"]


def test_a_folder_that_is_missing_serves_nothing(tmp_path: Path) -> None:
    assert list(Folder(tmp_path / "nowhere", "/page/")) == []


def test_pages_load_what_may_be_kept_for_good(folder: Path) -> None:
    served = Folder(folder, "/page/")
    found = served.find("index.html")
    assert found is not None
    body = found[0].answer(head()).body
    assert body == f'<script src="/page/{served.hash}/main.js"></script><a href="/docs">'.encode()
    for path, kept in (("main.js", REVALIDATE), (f"{served.hash}/main.js", FOREVER)):
        file = served.find(path)
        assert file is not None
        answer = file[0].answer(head(), file[1])
        assert answer.body == TEXT
        assert header(answer.headers, "Cache-Control") == kept.decode()


@pytest.mark.parametrize(
    "path", ["", "deep", "../page/main.js", "0123456789abcdef/main.js", "deep/../main.js", "/main.js"]
)
def test_there_is_nothing_at_other_paths(folder: Path, path: str) -> None:
    assert Folder(folder, "/page/").find(path) is None


def test_another_content_is_at_another_address(folder: Path) -> None:
    before = Folder(folder, "/page/").hash
    assert Folder(folder, "/page/").hash == before
    (folder / "deep" / "part.mjs").write_bytes(b"export default 1")
    assert Folder(folder, "/page/").hash != before


@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.0", False),
        ("identity", False),
        ("*", False),
        ("", False),
    ],
)
def test_it_is_compressed_for_those_who_say_so(accepted: str, compressed: bool) -> None:
    answer = File(TEXT, "text/plain").answer(head(accept_encoding=accepted))
    assert (header(answer.headers, "Content-Encoding") == "gzip") == compressed
    assert (gzip.decompress(answer.body) if compressed else answer.body) == TEXT
    assert header(answer.headers, "Vary") == "Accept-Encoding"


def test_what_would_not_get_shorter_is_sent_as_it_is() -> None:
    answer = File(b"short", "text/plain").answer(head(accept_encoding="gzip"))
    assert answer.body == b"short"
    assert header(answer.headers, "Vary") is None


@pytest.mark.parametrize("accepted", ["", "gzip"])
def test_it_is_not_sent_to_those_who_have_it(accepted: str) -> None:
    file = File(TEXT, "text/plain")
    tag = header(file.answer(head(accept_encoding=accepted)).headers, "ETag")
    assert tag is not None
    for named in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        assert file.answer(head(accept_encoding=accepted, if_none_match=named)).status == 304
    for named in ("", '"other"', tag.strip('"')):
        assert file.answer(head(accept_encoding=accepted, if_none_match=named)).status == 200


def test_each_coding_has_its_own_tag() -> None:
    file = File(TEXT, "text/plain")
    tags = {header(file.answer(head(accept_encoding=accepted)).headers, "ETag") for accepted in ("", "gzip")}
    assert len(tags) == 2
