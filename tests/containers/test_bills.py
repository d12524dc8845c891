"""The bill of materials of an image has what the image itself says that it has."""

import json

import pytest

from tests.containers.building import ROOT
from tests.containers.conftest import BuildImage
from tests.containers.engine import Engine

PYTHON = """
import importlib.metadata, re
for it in importlib.metadata.distributions():
    print(re.sub("[-_.]+", "-", it.name).lower(), it.version)
"""


@pytest.mark.parametrize("target", ["embedded", "torchserve-cpu"])
def test_it_names_every_package(target: str, image: BuildImage, engine: Engine) -> None:
    tag = image(target)
    done = engine.run(["make", "sbom", f"IMAGES={tag}"], folder=ROOT, timeout_s=300)
    assert done.returncode == 0, done.stderr
    assert "(none not from a lock)" in done.stdout
    components = json.loads((ROOT / "sbom" / f"fashion-mnist-{target}.cdx.json").read_text())["components"]

    def listed(kind: str) -> list[str]:
        found = [component for component in components if component.get("purl", "").startswith(f"pkg:{kind}/")]
        return sorted(f"{component['name']} {component['version']}" for component in found)

    def said(*command: str) -> list[str]:
        return sorted(engine.docker("run", "--rm", "--network=none", tag, *command).splitlines())

    assert listed("deb") == said("dpkg-query", "--show", "--showformat", "${Package} ${Version}\\n")
    assert listed("pypi") == said("python3", "-c", PYTHON)
    assert bool(listed("maven")) == ("torchserve" in target)
