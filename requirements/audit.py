"""`make audit`: known vulnerabilities of the packages that requirements/*.txt pin, by pip-audit.

    OSV_URL=URL   ask this mirror of OSV's query API alone; by default PyPI is asked and, where it does not answer, OSV

Exit status 1 where a locked package has a known vulnerability that a newer version has not, and `audit-ignored.toml`
does not say why that may stay; or where an entry there is out of date. Where no service answers, the last line is
`audit: not done, because ...` and the status 0: a network that cannot be reached says nothing of the packages. With
`--required`, for a CI that has a network, it is 1.

pip-audit alone would not do. It takes a 404 for "no known vulnerabilities", which is what a mirror without PyPI's JSON
API says of every package; so a service is asked for a package with a known vulnerability first, and one that does not
know that is not believed. And PyPI knows no local versions such as torch's 2.13.0+cpu: they are asked for as the
versions that they are builds of.
"""

import argparse
import dataclasses
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from requirements import environments, locks

IGNORED: Final = environments.LOCKS / "audit-ignored.toml"
CANARY: Final = ("requests", "2.19.0", "CVE-2018-18074")
"""A package, a version of it, and a vulnerability that this has."""

TIMEOUT_S: Final = 15
"""For one answer of a service."""
DEADLINE_S: Final = 150
"""For one run of pip-audit, which asks for one package after the other."""
_NETWORK: Final = re.compile(r"requests\.exceptions\.|your network may be blocking")


class NotDone(Exception):
    """A service does not answer, or is not to be believed; the message says which and why."""


@dataclasses.dataclass(frozen=True)
class Vulnerability:
    """What is known of one version of a package."""

    package: str
    version: str
    ids: frozenset[str]
    """Its names: CVE, GHSA, PYSEC."""
    fixed_in: tuple[str, ...]
    """Versions that have it no more; none yet where empty."""

    def __str__(self) -> str:
        fix = f"fixed in {', '.join(self.fixed_in)}" if self.fixed_in else "no fix yet"
        return f"{self.package} {self.version}: {', '.join(sorted(self.ids))}, {fix}"


@dataclasses.dataclass(frozen=True)
class Ignored:
    """One entry of audit-ignored.toml: a vulnerability that may stay up to and including a day."""

    package: str
    id: str
    until: datetime.date
    reason: str

    def covers(self, vulnerability: Vulnerability) -> bool:
        """Whether it is about this one."""
        return self.package == vulnerability.package and self.id in vulnerability.ids


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a service knows of packages."""

    packages: int
    vulnerabilities: frozenset[Vulnerability]
    unknown: frozenset[str]
    """Packages that it does not know."""

    @classmethod
    def read(cls, output: str) -> Self:
        """From pip-audit's JSON."""
        dependencies = json.loads(output)["dependencies"]
        known = [dependency for dependency in dependencies if "skip_reason" not in dependency]
        found = {
            Vulnerability(
                dependency["name"],
                dependency["version"],
                frozenset([vulnerability["id"], *vulnerability["aliases"]]),
                tuple(vulnerability["fix_versions"]),
            )
            for dependency in known
            for vulnerability in dependency["vulns"]
        }
        unknown = {dependency["name"] for dependency in dependencies if "skip_reason" in dependency}
        return cls(len(known), frozenset(found), frozenset(unknown))

    def __add__(self, other: "Answer") -> "Answer":
        return Answer(
            self.packages + other.packages,
            self.vulnerabilities | other.vulnerabilities,
            self.unknown | other.unknown,
        )


@dataclasses.dataclass(frozen=True)
class Service:
    """Who knows of vulnerabilities, and pip-audit's options to ask there."""

    name: str
    options: tuple[str, ...]

    def ask(self, pins: Iterable[tuple[str, str]]) -> Answer:
        """What it knows of packages, by name and version.

        Raises NotDone where it does not answer or is not to be believed, RuntimeError where pip-audit fails.
        """
        package, version, vulnerability = CANARY
        seen = Answer.read(self._run({package: version})).vulnerabilities
        if not any(vulnerability in known.ids for known in seen):
            raise NotDone(f"{self.name} does not say here that {package} {version} has {vulnerability}, as it has")
        answer = Answer(0, frozenset(), frozenset())
        for versions in rounds(pins):
            answer += Answer.read(self._run(versions))
        return answer

    def _run(self, versions: Mapping[str, str]) -> str:
        """What pip-audit prints."""
        with tempfile.TemporaryDirectory(prefix="fashion-mnist-audit.") as folder:
            file = Path(folder) / "pins.txt"
            file.write_text("".join(f"{name}=={version}\n" for name, version in versions.items()))
            command: list[str | Path] = [environments.tools() / "pip-audit", *self.options, "-r", file]
            command += ["--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
            # Not pip's cache: what was no vulnerability yesterday may be one today.
            command += ["--timeout", str(TIMEOUT_S), "--cache-dir", Path(folder) / "cache"]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
            except subprocess.TimeoutExpired:
                raise NotDone(f"{self.name} took longer than {DEADLINE_S} s") from None
        if done.stdout:
            return done.stdout
        if _NETWORK.search(done.stderr):
            raise NotDone(f"{self.name} does not answer ({done.stderr.strip().splitlines()[-1]})")
        raise RuntimeError(f"pip-audit failed: {done.stderr}")


def main() -> int:
    """Ask, print and judge; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--required", action="store_true", help="fail where no service answers")
    required = parser.parse_args().required
    ignored = read_ignored(IGNORED)
    pins = public_pins(environments.LOCKS.glob("*.txt"))
    lines = out_of_date(ignored, datetime.date.today())
    failed = bool(lines)
    reasons = []
    for service in services(os.environ):
        try:
            answer = service.ask(pins)
        except NotDone as reason:
            reasons.append(str(reason))
            continue
        more, found = judge(answer, ignored)
        failed |= found
        lines += [*more, f"audit: {answer.packages} locked packages looked up, by {service.name}"]
        break
    else:
        lines.append(f"audit: not done, because {'; '.join(reasons)}")
        failed |= required
    print("\n".join(lines))
    return int(failed)


def services(environment: Mapping[str, str]) -> list[Service]:
    """Whom to ask, one after the other until one answers."""
    if url := environment.get("OSV_URL"):
        return [Service("OSV_URL", ("-s", "osv", "--osv-url", url))]
    return [Service("PyPI", ("-s", "pypi")), Service("OSV", ("-s", "osv"))]


def public_pins(files: Iterable[Path]) -> list[tuple[str, str]]:
    """Names and versions that lock files pin, as PyPI has them."""
    return sorted({(pin.name, pin.public_version) for file in files for pin in locks.read(file)})


def rounds(pins: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """The pins as versions by name, in few such mappings: pip-audit takes one version of a package at a time."""
    found: list[dict[str, str]] = []
    for name, version in pins:
        free = next((versions for versions in found if name not in versions), None)
        if free is None:
            found.append(free := {})
        free[name] = version
    return found


def read_ignored(path: Path) -> list[Ignored]:
    """The entries of an ignore list. Raises TypeError, which names the field, for one missing or unknown."""
    return [Ignored(**entry) for entry in tomllib.loads(path.read_text()).get("ignored", [])]


def out_of_date(ignored: Iterable[Ignored], today: datetime.date) -> list[str]:
    """What to print of entries whose day has passed."""
    return [
        f"{entry.package}: {entry.id} may stay until {entry.until} by {IGNORED.name}: mend it, or look at it again"
        for entry in ignored
        if entry.until < today
    ]


def judge(answer: Answer, ignored: Sequence[Ignored]) -> tuple[list[str], bool]:
    """What to print of an answer, and whether something in it must be mended."""
    lines, failed, unused = [], False, set(ignored)
    for vulnerability in sorted(answer.vulnerabilities, key=str):
        covering = [entry for entry in ignored if entry.covers(vulnerability)]
        unused -= set(covering)
        if covering:
            lines.append(f"{vulnerability}; may stay until {covering[0].until}: {covering[0].reason}")
        elif vulnerability.fixed_in:
            failed = True
            lines.append(f"{vulnerability}: run `make lock`, or say in {IGNORED.name} why it may stay")
        else:
            lines.append(str(vulnerability))
    lines += sorted(f"{entry.package}: {entry.id} was not found: remove it from {IGNORED.name}" for entry in unused)
    lines += [f"{package}: not audited, this service does not know it" for package in sorted(answer.unknown)]
    return lines, failed


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as error:
        sys.exit(f"error: {error}")
