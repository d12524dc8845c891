"""Whatever comes, by any protocol, the answer is a prediction or an error of the client's, in the protocol's shape."""

import grpc
import pytest
from hypothesis import given

from tests.hostile import mutated_bodies, mutated_calls, mutated_requests
from tests.support.command import ServeCommand
from tests.support.mutations import Corpus, many, quantity


@many
@given(mutated_bodies.requests)
def test_bodies_through_the_embedded_engine(embedded: ServeCommand, sent: list[tuple[bytes, str, str]]) -> None:
    mutated_bodies.check(embedded.url, sent)


@quantity(1_000)
@given(mutated_bodies.requests)
def test_bodies_through_torchserve(in_front: ServeCommand, sent: list[tuple[bytes, str, str]]) -> None:
    mutated_bodies.check(in_front.url, sent)


@many
@given(mutated_requests.oip_requests)
def test_requests_of_the_open_inference_protocol(embedded: ServeCommand, sent: Corpus) -> None:
    mutated_requests.check(embedded.url, sent, mutated_requests.is_oip_answer)


@many
@given(mutated_requests.v1_requests)
def test_requests_of_v1(embedded: ServeCommand, sent: Corpus) -> None:
    mutated_requests.check(embedded.url, sent, mutated_requests.is_v1_answer)


@pytest.fixture(scope="module")
def channel(embedded: ServeCommand) -> grpc.Channel:
    """To its gRPC port."""
    with grpc.insecure_channel(f"127.0.0.1:{embedded.state().grpc_port}") as channel:
        yield channel


@many
@given(mutated_calls.calls)
def test_calls_over_grpc(channel: grpc.Channel, sent: Corpus) -> None:
    mutated_calls.check(channel, sent)
