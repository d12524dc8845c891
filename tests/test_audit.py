"""`make audit`: a known vulnerability is seen by the real pip-audit, and what is not known is not taken for safe."""

import datetime
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from requirements import audit, environments

CANARY = audit.CANARY[:2]
ADVISORY = {"id": "GHSA-x84v-xcm2-53pg", "aliases": ["CVE-2018-18074", "PYSEC-2018-28"], "affected": []}
NEXT_YEAR = datetime.date(2027, 1, 1)


class OSV(ThreadingHTTPServer):
    """OSV's query API, by a table of advisories."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Query)
        self.advisories: dict[tuple[str, str], list[dict[str, Any]]] = {CANARY: [ADVISORY]}
        self.asked: set[tuple[str, str]] = set()

    @property
    def service(self) -> audit.Service:
        """As pip-audit asks it."""
        (service,) = audit.services({"OSV_URL": f"http://127.0.0.1:{self.server_port}/v1/query"})
        return service


class _Query(BaseHTTPRequestHandler):
    server: OSV

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        pin = (query["package"]["name"], query["version"])
        self.server.asked.add(pin)
        found = self.server.advisories.get(pin)
        body = json.dumps({"vulns": found} if found else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def osv() -> Iterator[OSV]:
    with OSV() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def advisory(package: str, id: str, *fixed: str) -> dict[str, Any]:
    events = [{"introduced": "0"}, *({"fixed": version} for version in fixed)]
    ranges = [{"type": "ECOSYSTEM", "events": events}]
    return {"id": id, "affected": [{"package": {"name": package, "ecosystem": "PyPI"}, "ranges": ranges}]}


def vulnerability(*fixed: str) -> audit.Vulnerability:
    return audit.Vulnerability("torch", "2.13.0", frozenset(["CVE-1", "GHSA-1"]), fixed)


def answer(*found: audit.Vulnerability) -> audit.Answer:
    return audit.Answer(1, frozenset(found), frozenset())


def test_the_real_locks_are_asked_for_whole_and_a_vulnerability_is_found(osv: OSV) -> None:
    pins = audit.public_pins(environments.LOCKS.glob("*.txt"))
    version = dict(pins)["torch"]
    assert "+" not in version, "PyPI does not know local versions"
    osv.advisories["torch", version] = [advisory("torch", "GHSA-2", "99.0")]
    found = osv.service.ask(pins)
    assert osv.asked == {*pins, CANARY}
    assert found.packages == len(pins)
    assert found.vulnerabilities == {audit.Vulnerability("torch", version, frozenset(["GHSA-2"]), ("99.0",))}
    lines, failed = audit.judge(found, [])
    assert failed
    assert lines[0].startswith(f"torch {version}: GHSA-2, fixed in 99.0: run `make lock`")


def test_make_audit_says_loudly_that_nobody_answers(osv: OSV) -> None:
    osv.server_close()
    url = f"http://127.0.0.1:{osv.server_port}/v1/query"
    done = subprocess.run(
        ["make", "audit"],
        cwd=environments.ROOT,
        env={**os.environ, "OSV_URL": url},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("audit: not done, because OSV_URL does not answer (")


def test_a_service_that_knows_nothing_is_not_believed(osv: OSV) -> None:
    osv.advisories.clear()
    with pytest.raises(audit.NotDone, match="does not say here that requests 2.19.0 has CVE-2018-18074"):
        osv.service.ask([("torch", "2.13.0")])
    assert osv.asked == {CANARY}, "nor asked for more"


def test_what_pip_audit_skips_is_said() -> None:
    skipped = {"name": "ours", "skip_reason": "Dependency not found on PyPI and could not be audited: ours (1.0)"}
    found = audit.Answer.read(json.dumps({"dependencies": [skipped], "fixes": []}))
    assert found == audit.Answer(0, frozenset(), frozenset(["ours"]))
    assert audit.judge(found, []) == (["ours: not audited, this service does not know it"], False)


def test_one_without_a_fix_is_said_and_fails_nothing() -> None:
    assert audit.judge(answer(vulnerability()), []) == (["torch 2.13.0: CVE-1, GHSA-1, no fix yet"], False)


def test_one_of_the_list_may_stay_until_its_day() -> None:
    entry = audit.Ignored("torch", "GHSA-1", NEXT_YEAR, "nobody can reach it")
    (line,), failed = audit.judge(answer(vulnerability("2.14.0")), [entry])
    assert not failed
    assert line.endswith("may stay until 2027-01-01: nobody can reach it")
    assert audit.out_of_date([entry], NEXT_YEAR) == []
    (line,) = audit.out_of_date([entry], NEXT_YEAR + datetime.timedelta(days=1))
    assert line.startswith("torch: GHSA-1 may stay until 2027-01-01")


@pytest.mark.parametrize("entry", [("numpy", "GHSA-1"), ("torch", "GHSA-3")])
def test_an_entry_covers_its_own_vulnerability_alone(entry: tuple[str, str]) -> None:
    lines, failed = audit.judge(answer(vulnerability("2.14.0")), [audit.Ignored(*entry, NEXT_YEAR, "why")])
    assert failed
    assert lines[1] == f"{entry[0]}: {entry[1]} was not found: remove it from audit-ignored.toml"


def test_every_entry_has_a_day_and_a_reason() -> None:
    for entry in audit.read_ignored(audit.IGNORED):
        assert isinstance(entry.until, datetime.date)
        assert len(entry.reason) > 20


def test_an_entry_without_a_day_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ignored.toml"
    file.write_text('[[ignored]]\npackage = "torch"\nid = "CVE-1"\nreason = "why"\n')
    with pytest.raises(TypeError, match="until"):
        audit.read_ignored(file)


def test_two_versions_of_a_package_are_asked_for_in_two_rounds() -> None:
    pins = [("numpy", "1.0"), ("numpy", "2.0"), ("torch", "2.0")]
    assert audit.rounds(pins) == [{"numpy": "1.0", "torch": "2.0"}, {"numpy": "2.0"}]
