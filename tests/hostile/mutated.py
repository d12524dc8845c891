"""Requests of every protocol that are nearly right: each gets an answer, or an error that is the client's own."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final

import grpc
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from tests.hostile import mutated_bodies, mutated_calls, mutated_frames, mutated_messages, mutated_requests
from tests.hostile.hunt import Hunt, Scenario
from tests.support.mutations import quantity

PROCESSES: Final = 2


def explore(strategy: st.SearchStrategy[Any], check: Callable[[Any], None], number: int, requests: int) -> None:
    """Check so many requests of a strategy. Raises AssertionError for the first that is answered wrongly."""

    @seed(number)
    @settings(quantity(requests), database=None, print_blob=False)
    @given(strategy)
    def examples(sent: Any) -> None:
        check(sent)

    try:
        examples()
    except Exception as error:  # hypothesis' own, and groups of them, do not reach the parent whole
        raise AssertionError(f"{type(error).__name__}: {error}"[:2000]) from None


def send(kind: str, url: str, grpc_port: int, number: int, requests: int) -> None:
    """Send mutated requests of one kind to a server."""
    match kind:
        case "own":
            explore(mutated_bodies.requests, lambda sent: mutated_bodies.check(url, sent), number, requests)
        case "oip":
            found, is_answer = mutated_requests.oip_requests, mutated_requests.is_oip_answer
            explore(found, lambda sent: mutated_requests.check(url, sent, is_answer), number, requests)
        case "v1":
            found, is_answer = mutated_requests.v1_requests, mutated_requests.is_v1_answer
            explore(found, lambda sent: mutated_requests.check(url, sent, is_answer), number, requests)
        case _:
            with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
                explore(mutated_calls.calls, lambda sent: mutated_calls.check(channel, sent), number, requests)


def bodies(hunt: Hunt, shares: dict[str, float]) -> None:
    """Mutated bodies of these kinds, each a share of the budget, from two processes."""
    port = hunt.server.state().grpc_port
    with (
        hunt.beside(hunt.server),
        ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool,
    ):
        sent = [
            pool.submit(send, kind, hunt.server.url, port, hunt.seed + place, int(hunt.requests * share / PROCESSES))
            for place in range(PROCESSES)
            for kind, share in shares.items()
        ]
        for each in sent:
            each.result()
    hunt.figures["requests"] = int(hunt.requests * sum(shares.values()))


SCENARIOS: Final = [
    Scenario(
        "mutated bodies over HTTP",
        "a prediction, or a 4xx in the protocol's shape; never a 5xx",
        lambda hunt: bodies(hunt, {"own": 0.45, "oip": 0.25, "v1": 0.15}),
    ),
    Scenario(
        "mutated calls over gRPC",
        "OK, INVALID_ARGUMENT or NOT_FOUND, with a message",
        lambda hunt: bodies(hunt, {"grpc": 0.15}),
    ),
    Scenario(
        "mutated frames of HTTP/2",
        "well-formed calls on other connections are answered; memory flat",
        mutated_frames.scenario,
    ),
    Scenario(
        "mutated HTTP/1.1 messages",
        "answered with what a client may be told, or the connection is closed; no 5xx but 501 and 505",
        mutated_messages.directly,
    ),
    Scenario(
        "mutated HTTP/1.1 messages behind HAProxy",
        "no client gets an answer that belongs to another",
        mutated_messages.behind_haproxy,
    ),
    Scenario(
        "mutated HTTP/1.1 messages behind nginx",
        "no client gets an answer that belongs to another",
        mutated_messages.behind_nginx,
    ),
]
