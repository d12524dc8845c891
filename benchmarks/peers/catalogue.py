"""The peers: who is measured, by which setups, and what each is sent."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks import servers
from benchmarks.peers import applications, containers, kinds
from benchmarks.peers.kinds import Kind
from benchmarks.peers.nginx import nginx
from benchmarks.servers import Server
from benchmarks.stock import stock_torchserve
from fashion_mnist.data import dataset
from fashion_mnist.model_store import model_store_path
from fashion_mnist.settings import Settings

DOCUMENTED: Final = "as documented"
TUNED: Final = "tuned"
PHOTOGRAPHS: Final = "photographs"
LIMIT: Final = "limit"
EMBEDDED: Final = "this service, embedded engine"
THROUGH_TORCHSERVE: Final = "this service, through TorchServe"
OURS: Final = (THROUGH_TORCHSERVE, EMBEDDED)


@dataclass(frozen=True, eq=False)
class Peer:
    """A server in one setup: a row of the table."""

    name: str
    setup: str
    """DOCUMENTED, TUNED, PHOTOGRAPHS (as documented, and sent photographs) or LIMIT."""
    kind: Kind
    start: Callable[[Path], AbstractContextManager[Server]]
    """Starts it with a new folder; entered, it answers."""
    environment: str | None = None
    """Of benchmarks/environments, where it has one of its own."""
    rounded: bool = False
    """Whether its graph has the usual mean and deviation of four digits, and so labels of its own."""


def peers() -> list[Peer]:
    """All of them, in the order of the table."""
    return [
        Peer("TorchServe", DOCUMENTED, kinds.PNG, _stock, rounded=True),
        # With our handler and a worker that reads in larger pieces: more than its own settings can do.
        Peer("TorchServe", TUNED, kinds.RAW, partial(servers.torchserve_alone, batch_size=32)),
        Peer("FastAPI", DOCUMENTED, kinds.PNG, partial(servers.fastapi, tuned=False), "fastapi"),
        Peer("FastAPI", TUNED, kinds.RAW, partial(applications.fastapi_tuned, kind=kinds.RAW), "fastapi"),
        *_pair("LitServe", applications.litserve, kinds.BASE64, kinds.RAW, "litserve"),
        *_pair("BentoML", applications.bentoml, kinds.FORM, kinds.RAW, "bentoml"),
        *_pair("Ray Serve", applications.ray_serve, kinds.PNG, kinds.RAW, "ray"),
        *_pair("MLServer", applications.mlserver, kinds.OIP_NUMBERS, kinds.OIP_BASE64, "mlserver"),
        *_pair("KServe", applications.kserve, kinds.INSTANCES, kinds.OIP_BINARY, "kserve"),
        *_pair("Triton", containers.triton, kinds.OIP_BINARY, kinds.OIP_BINARY),
        *_pair("OpenVINO Model Server", containers.openvino, kinds.OIP_BINARY, kinds.OIP_BINARY),
        *_ours(THROUGH_TORCHSERVE, "torchserve"),
        *_ours(EMBEDDED, "embedded"),
        Peer("FastAPI", PHOTOGRAPHS, kinds.PHOTOGRAPH, partial(servers.fastapi, tuned=False), "fastapi"),
        *(
            Peer(name, PHOTOGRAPHS, kinds.PHOTOGRAPH, partial(servers.fashion_mnist, engine=engine))
            for name, engine in ((THROUGH_TORCHSERVE, "torchserve"), (EMBEDDED, "embedded"))
        ),
        Peer("nginx, a constant answer", LIMIT, kinds.RAW, partial(nginx, kind=kinds.RAW)),
    ]


def _pair(
    name: str,
    start: Callable[..., AbstractContextManager[Server]],
    documented: Kind,
    tuned: Kind,
    environment: str | None = None,
) -> list[Peer]:
    return [
        Peer(name, DOCUMENTED, documented, partial(start, kind=documented, tuned=False), environment),
        Peer(name, TUNED, tuned, partial(start, kind=tuned, tuned=True), environment),
    ]


def _ours(name: str, engine: str) -> list[Peer]:
    return [
        Peer(name, DOCUMENTED, kinds.PNG, partial(servers.fashion_mnist, engine=engine)),
        Peer(name, TUNED, kinds.RAW, partial(servers.fashion_mnist, engine=engine)),
    ]


def _stock(folder: Path) -> AbstractContextManager[Server]:
    """As shipped; it takes PNG alone."""
    settings = Settings.from_environment()
    image = dataset.load(settings.data).test.images[0]
    return stock_torchserve(model_store_path(settings) / "weights.pt", folder, image)
