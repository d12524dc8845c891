"""Every command and program on a page runs, in the page's order and in a fresh folder, and prints what is shown.

A comment right above a block says how, where that is not so:

    <!-- not run: REASON -->            a person reads it; no test can run it here
    <!-- run by tests/PATH.py -->       another test runs it
    <!-- in a terminal of its own -->   a server: it runs until the page ends
    <!-- figures within N % -->         other processors, or another version of the model, give other figures

An output may leave parts out by `...`; white space does not count.
"""

import contextlib
import doctest
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import processes
from serving.config import free_ports
from tests.support.command import ServeCommand, wait_until
from tests.support.pages import ROOT, Block, blocks, pages

DEADLINE_S = 300
RUN = ("console", "sh", "python")
SHOWN = ("text", "json", "yaml", "toml", "ini")
ELSEWHERE = re.compile(r"(?:run|checked) by (tests/\S+\.py)")
WITHIN = re.compile(r"figures within (\d+) %")
FIGURE = re.compile(r"(?<![\w.,])-?\d[\d,]*(?:\.\d+)?")
SERVER = "in a terminal of its own"


def runs(block: Block) -> bool:
    """Whether this test runs the block."""
    return block.language in RUN and not block.note.startswith("not run: ") and not ELSEWHERE.fullmatch(block.note)


PAGES = [page for page in pages() if any(map(runs, blocks(page)))]


class Reader:
    """Someone who types a page's commands, in a folder with the released model. `running` is a server, if any is."""

    def __init__(self, folder: Path, running: ServeCommand | None) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "model_store", folder / "model_store", ignore=shutil.ignore_patterns("*.mar"))
        (folder / "docs").symlink_to(ROOT / "docs")
        if running is None:
            ports = free_ports(3)
        else:
            state = running.state()
            ports = [state.port, state.grpc_port, state.admin_port]
        self.ports = dict(zip(("8080", "8085", "8086"), ports, strict=True))
        names = ("FASHION_MNIST_PORT", "FASHION_MNIST_GRPC_PORT", "FASHION_MNIST_ADMIN_PORT")
        self.environment = {
            **os.environ,
            **dict(zip(names, map(str, self.ports.values()), strict=True)),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "COLUMNS": "80",
        }
        self.names: dict[str, object] = {"__name__": "__main__"}
        self.servers: list[subprocess.Popen[bytes]] = []

    def here(self, text: str) -> str:
        """A page's text with this server's ports."""
        return re.sub(r"\b127\.0\.0\.1:(8080|8085|8086)\b", lambda match: f"127.0.0.1:{self.ports[match[1]]}", text)

    def serve(self, command: str) -> str:
        """Start a server; what it prints until it is ready."""
        output = self.folder / f"server-{len(self.servers)}.log"
        with output.open("wb") as file:
            server = subprocess.Popen(
                ["bash", "-c", command],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        self.servers.append(server)
        wait_until(lambda: "ready: " in output.read_text() or server.poll() is not None, command)
        assert server.poll() is None, output.read_text()
        return output.read_text()

    def type(self, command: str) -> str:
        """Run a command; its output."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.here(command)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def program(self, text: str) -> str:
        """Run a program, which knows the names of those above it on the page; its output."""
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(compile(self.here(text), "page", "exec"), self.names)
        return output.getvalue()


@pytest.fixture
def reader(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Reader]:
    """A reader in a fresh folder. A page that starts no server finds one; those that it starts end with it."""
    read = [block for block in blocks(page) if runs(block)]
    asks = any("127.0.0.1:80" in block.text for block in read) and not any(block.note == SERVER for block in read)
    reader = Reader(tmp_path, request.getfixturevalue("embedded") if asks else None)
    monkeypatch.chdir(tmp_path)
    try:
        yield reader
    finally:
        for server in reader.servers:
            server.terminate()
        for server in reader.servers:
            processes.stop(server, grace_s=10)


def same(shown: str, printed: str, note: str) -> bool:
    """Whether an output is the one that a page shows, with figures as exact as the block's comment says."""
    within = WITHIN.fullmatch(note)
    if within is None:
        return doctest.OutputChecker().check_output(shown, printed, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    pattern = re.sub(r"(?:\\\s)+", r"\\s+", re.escape(FIGURE.sub("#", " ".join(shown.split()))))
    pattern = pattern.replace(re.escape("..."), ".*?").replace(re.escape("#"), f"({FIGURE.pattern})")
    match = re.fullmatch(pattern, " ".join(printed.split()))
    wanted = [float(figure.replace(",", "")) for figure in FIGURE.findall(shown)]
    found = [float(figure.replace(",", "")) for figure in match.groups()] if match else []
    return match is not None and found == pytest.approx(wanted, rel=int(within[1]) / 100)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_does_what_it_says(page: Path, reader: Reader) -> None:
    found = blocks(page)
    for block, after in zip(found, [*found[1:], None], strict=True):
        if not runs(block):
            continue
        where = f"{block.page}:{block.line}"
        if block.language == "python":
            printed = reader.program(block.text)
            if after is not None and after.language == "text" and (not after.note or WITHIN.fullmatch(after.note)):
                assert same(reader.here(after.text), printed, after.note), f"{where} printed\n{printed}"
            continue
        for command, shown in block.commands():
            printed = reader.serve(command) if block.note == SERVER else reader.type(command)
            if shown.strip():
                assert same(reader.here(shown), printed, block.note), f"{where}: {command}\nprinted\n{printed}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_block_says_what_it_is(page: Path) -> None:
    for block in blocks(page):
        where = f"{block.page}:{block.line}"
        assert block.language in (*RUN, *SHOWN), f"{where}: name the block's language"
        elsewhere = ELSEWHERE.fullmatch(block.note)
        assert elsewhere is None or (ROOT / elsewhere[1]).is_file(), (
            f"{where}: there is no {elsewhere and elsewhere[1]}"
        )
