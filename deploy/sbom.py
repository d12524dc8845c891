"""`make sbom`: a software bill of materials of each image that the container engine has, in CycloneDX's JSON.

    make sbom                                       of all tags of fashion-mnist
    make sbom IMAGES="fashion-mnist:embedded"       of these images

Runs in the environment of requirements/tools.txt. An image is read as it is, by `docker export`, and nothing in it is
run. The same image gives the same file: its number and its time are the image's own.
"""

import argparse
import datetime
import json
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.contrib.this.builders import this_component
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import LicenseExpression
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from deploy import image_contents
from deploy.image_contents import Bundled, Contents, DebianPackage, JavaLibrary, Model, PythonPackage
from fashion_mnist.system import atomic
from requirements import environments, locks

REPOSITORY: Final = "fashion-mnist"
FOLDER: Final = environments.ROOT / "sbom"
DEADLINE_S: Final = 300
"""For one call of the engine; the export of an image with CUDA has gigabytes."""

Hashes = dict[tuple[str, str], tuple[str, ...]]
"""The SHA-256 of the files that a lock lets in, by name and version."""


def main() -> None:
    """Write one file an image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", help=f"default: all tags of {REPOSITORY}")
    images = (
        parser.parse_args().images
        or _docker("image", "ls", "--filter", f"reference={REPOSITORY}", "--format", "{{.Repository}}:{{.Tag}}").split()
    )
    if not images:
        sys.exit(f"error: the container engine has no image {REPOSITORY}: `docker compose build` makes them")
    hashes = locked_hashes(environments.LOCKS.glob("*.txt"))
    for named in images:
        image = named if ":" in named.rpartition("/")[2] else f"{named}:latest"
        contents = export(image)
        text = write(bill(json.loads(_docker("image", "inspect", image))[0], image, contents, hashes))
        path = FOLDER / f"{image.replace('/', '-').replace(':', '-')}.cdx.json"
        atomic.write_text(path, text)
        elsewhere = [package.name for package in contents.python if (package.name, package.version) not in hashes]
        print(
            f"{path.relative_to(environments.ROOT)}: {len(contents.debian)} Debian packages, {len(contents.python)} "
            f"Python packages ({', '.join(elsewhere) or 'none'} not from a lock), {len(contents.java)} of Java, "
            f"{len(contents.models)} model files"
        )


def locked_hashes(files: Iterable[Path]) -> Hashes:
    """What the locks say."""
    return {(pin.name, pin.version): pin.sha256 for file in files for pin in locks.read(file)}


def export(image: str) -> Contents:
    """What is in an image, by a container of it that is never started."""
    # A command, for images that name none.
    container = _docker("create", "--network", "none", image, "none").strip()
    try:
        with subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as process:
            timer = threading.Timer(DEADLINE_S, process.kill)
            timer.start()
            try:
                assert process.stdout is not None
                contents = image_contents.read(process.stdout)
                # Padding behind the archive's end, which the engine still wants to get rid of.
                while process.stdout.read(2**20):
                    pass
            finally:
                timer.cancel()
                process.kill()
        return contents
    finally:
        _docker("rm", container)


def bill(facts: dict[str, Any], image: str, contents: Contents, hashes: Hashes) -> Bom:
    """The bill of materials of an image, by what `docker image inspect` says and what was found in it."""
    name, _, tag = image.rpartition(":")
    root = Component(
        type=ComponentType.CONTAINER,
        name=name,
        version=tag,
        bom_ref=facts["Id"],
        properties=[Property(name="docker:image:id", value=facts["Id"])],
    )
    components = [
        *(_debian(package, contents.debian_release) for package in contents.debian),
        *(_python(package, hashes, contents.bundled.get(package.folder, ())) for package in contents.python),
        *(_java(library) for library in contents.java),
        *(_model(model) for model in contents.models),
    ]
    bom = Bom(
        # A version 5 number, of what cannot be of anything else.
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"{image}@{facts['Id']}"),
        metadata=BomMetaData(
            timestamp=datetime.datetime.fromisoformat(facts["Created"]),
            tools=ToolRepository(components=[this_component()]),
            component=root,
        ),
        components=components,
    )
    bom.register_dependency(root, components)
    return bom


def write(bom: Bom) -> str:
    """As JSON. Raises RuntimeError where that is none by CycloneDX's strict schema."""
    text: str = JsonV1Dot6(bom).output_as_string(indent=1)
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise RuntimeError(f"the bill of materials is not what CycloneDX's schema wants: {error}")
    return text + "\n"


def _debian(package: DebianPackage, release: str) -> Component:
    qualifiers = {"arch": package.architecture, "distro": f"debian-{release}"}
    if package.source != package.name:
        qualifiers["upstream"] = package.source
    purl = PackageURL("deb", "debian", package.name, package.version, qualifiers)
    return Component(name=package.name, version=package.version, purl=purl, bom_ref=str(purl))


def _python(package: PythonPackage, hashes: Hashes, bundled: Iterable[Bundled]) -> Component:
    purl = PackageURL("pypi", None, package.name, package.version)
    licences = [LicenseFactory().make_from_string(licence) for licence in package.licences]
    if any(isinstance(licence, LicenseExpression) for licence in licences):
        del licences[1:]  # an expression stands alone
    # Which of its files was installed is not written down anywhere; pip let in one of these.
    locked = [HashType(alg=HashAlgorithm.SHA_256, content=it) for it in hashes.get((package.name, package.version), ())]
    files = ExternalReference(
        type=ExternalReferenceType.DISTRIBUTION,
        url=XsUri(f"https://pypi.org/project/{package.name}/{package.version}/"),
        comment="the files that the lock lets in",
        hashes=locked,
    )
    return Component(
        name=package.name,
        version=package.version,
        purl=purl,
        bom_ref=f"{purl}#{package.folder}",
        components=[
            Component(
                name=library.name,
                version=library.version,
                purl=PackageURL.from_string(library.purl),
                bom_ref=f"{purl}#{package.folder}#{library.purl}",
            )
            for library in bundled
        ],
        licenses=licences,
        external_references=[files] if locked else [],
    )


def _java(library: JavaLibrary) -> Component:
    purl = PackageURL("maven" if library.group else "generic", library.group or None, library.name, library.version)
    return Component(
        type=ComponentType.LIBRARY if library.group else ComponentType.PLATFORM,
        group=library.group or None,
        name=library.name,
        version=library.version,
        purl=purl,
        bom_ref=f"{purl}#{library.file}",
    )


def _model(model: Model) -> Component:
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name=model.name,
        bom_ref=f"{model.name}@{model.sha256}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=model.sha256)],
    )


def _docker(*arguments: str) -> str:
    """What the engine's command prints; ends the program with its words where it fails."""
    try:
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    except FileNotFoundError:
        sys.exit("error: there is no container engine: apt-get install docker.io")
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: {error.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    main()
