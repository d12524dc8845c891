"""What Kubernetes' own schemas, and KServe's, say of objects, run by the Python that has kubernetes-validate.

Standard input is a JSON list of objects; arguments are the file of KServe's schemas and the versions of Kubernetes.
Prints a JSON list of what is wrong with them.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

import jsonschema
import kubernetes_validate


def wrong(found: dict[str, Any], kserve: dict[str, Any], version: str) -> Iterator[str]:
    """What is wrong with one object. Fields that the schema does not have are."""
    name = f"{found['kind']} {found['metadata']['name']}, Kubernetes {version}"
    try:
        if found["apiVersion"].startswith("serving.kserve.io/"):
            jsonschema.Draft202012Validator(kserve[found["kind"]]).validate(found)
        else:
            kubernetes_validate.validate(found, version, strict=True)
    except jsonschema.ValidationError as error:
        yield f"{name}: {'.'.join(map(str, error.path))}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        yield f"{name}: {error.message}"


if __name__ == "__main__":
    objects = json.load(sys.stdin)
    with open(sys.argv[1]) as file:
        schemas = json.load(file)
    print(json.dumps([line for version in sys.argv[2:] for each in objects for line in wrong(each, schemas, version)]))
