"""What an image is made of, read from its files: packages of Debian and of Python, Java, the model.

The standard library alone: it runs where `make sbom` does, which has few packages.
"""

import dataclasses
import email.parser
import hashlib
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Callable
from email.message import Message
from pathlib import PurePosixPath
from typing import IO, Final


@dataclasses.dataclass(frozen=True)
class DebianPackage:
    """A package that dpkg has installed."""

    name: str
    version: str
    architecture: str
    source: str
    """The source package that it was built from, which Debian's security tracker speaks of."""


@dataclasses.dataclass(frozen=True)
class PythonPackage:
    """A distribution in some site-packages."""

    name: str
    """Normalised, as locks have it."""
    version: str
    licences: tuple[str, ...]
    """An SPDX expression where the package has one; else what it says, in its own words."""
    folder: str


@dataclasses.dataclass(frozen=True)
class Bundled:
    """A library of another ecosystem that a Python package has in its files, by its own bill of materials (PEP 770)."""

    name: str
    version: str
    purl: str


@dataclasses.dataclass(frozen=True)
class JavaLibrary:
    """A library in a jar, as far as it left its version there, or the Java runtime itself."""

    group: str
    name: str
    version: str
    file: str


@dataclasses.dataclass(frozen=True)
class Model:
    """A file that an engine loads, or that one is exported from."""

    name: str
    sha256: str


@dataclasses.dataclass
class Contents:
    """All that was found."""

    debian_release: str = ""
    """Such as "12"; empty where the image is of no Debian."""
    debian: list[DebianPackage] = dataclasses.field(default_factory=list)
    python: list[PythonPackage] = dataclasses.field(default_factory=list)
    bundled: dict[str, set[Bundled]] = dataclasses.field(default_factory=dict)
    """What Python packages bring along, by their folders."""
    java: list[JavaLibrary] = dataclasses.field(default_factory=list)
    models: list[Model] = dataclasses.field(default_factory=list)


def read(stream: IO[bytes]) -> Contents:
    """Read the tar that `docker export` writes, once and from its start to its end."""
    contents = Contents()
    with tarfile.open(fileobj=stream, mode="r|") as files:
        for member in files:
            path = PurePosixPath("/", member.name)
            for pattern, take in _READERS.items():
                if member.isfile() and path.match(pattern):
                    file = files.extractfile(member)
                    assert file is not None
                    take(contents, path, file.read())
    return contents


def _os_release(contents: Contents, path: PurePosixPath, content: bytes) -> None:
    fields = dict(line.split("=", 1) for line in content.decode().splitlines() if "=" in line)
    if fields.get("ID", "").strip('"') == "debian":
        contents.debian_release = fields["VERSION_ID"].strip('"')


def _dpkg_status(contents: Contents, path: PurePosixPath, content: bytes) -> None:
    for paragraph in content.decode().strip().split("\n\n"):
        fields = _fields(paragraph)
        if fields["Status"] == "install ok installed":
            name = fields["Package"]
            # "name (version)", where it is not the package's own.
            source = fields.get("Source", name).partition(" ")[0]
            contents.debian.append(DebianPackage(name, fields["Version"], fields["Architecture"], source))


def _python_metadata(contents: Contents, path: PurePosixPath, content: bytes) -> None:
    if path.parent.parent.name != "site-packages":
        return  # a package that another brings along in its own folder
    fields = _fields(content.decode())
    name = re.sub(r"[-_.]+", "-", fields["Name"]).lower()
    contents.python.append(PythonPackage(name, fields["Version"], _licences(fields), str(path.parent)))


def _python_bill(contents: Contents, path: PurePosixPath, content: bytes) -> None:
    found = contents.bundled.setdefault(str(path.parent.parent), set())
    for component in json.loads(content).get("components", []):
        # The package itself has no place in the list of what it brings along.
        if {"version", "purl"} <= component.keys() and not component["purl"].startswith("pkg:pypi/"):
            found.add(Bundled(component["name"], component["version"], component["purl"]))


def _licences(fields: Message) -> tuple[str, ...]:
    if expression := fields.get("License-Expression"):
        return (str(expression),)
    classifiers = [str(line) for line in fields.get_all("Classifier", []) if line.startswith("License :: ")]
    named = [line.rpartition(" :: ")[2] for line in classifiers if line != "License :: OSI Approved"]
    # The older field may hold the licence's whole text.
    text = str(fields.get("License", "")).strip()
    if text and "\n" not in text and text != "UNKNOWN":
        return (text,)
    return tuple(named)


def _jar(contents: Contents, path: PurePosixPath, content: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(content)) as jar:
        for name in jar.namelist():
            if re.fullmatch(r"META-INF/maven/.*/pom\.properties", name):
                fields = _properties(jar.read(name))
                found = {fields["artifactId"]: (fields["groupId"], fields["version"])}
            elif name == "META-INF/io.netty.versions.properties":
                fields = _properties(jar.read(name))
                found = {
                    key.removesuffix(".version"): ("io.netty", value)
                    for key, value in fields.items()
                    if key.endswith(".version")
                }
            else:
                continue
            contents.java += [
                JavaLibrary(group, artifact, version, str(path)) for artifact, (group, version) in found.items()
            ]


def _java_release(contents: Contents, path: PurePosixPath, content: bytes) -> None:
    fields = _properties(content)
    contents.java.append(JavaLibrary("", "openjdk", fields["JAVA_VERSION"].strip('"'), str(path.parent)))


def _model(contents: Contents, path: PurePosixPath, content: bytes) -> None:
    contents.models.append(Model(path.name, hashlib.sha256(content).hexdigest()))


def _fields(text: str) -> Message:
    """The fields of a paragraph as dpkg and Python packages write them."""
    return email.parser.HeaderParser().parsestr(text)


def _properties(content: bytes) -> dict[str, str]:
    """The fields of a Java properties file."""
    lines = content.decode().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


_READERS: Final[dict[str, Callable[[Contents, PurePosixPath, bytes], None]]] = {
    "/usr/lib/os-release": _os_release,
    "/var/lib/dpkg/status": _dpkg_status,
    "*.dist-info/METADATA": _python_metadata,
    "*.dist-info/sboms/*.json": _python_bill,
    "*.jar": _jar,
    "java-runtime/release": _java_release,
    "model_store/*.onnx": _model,
    "model_store/*.pt": _model,
}
"""Which files say what, by the ends of their paths."""
