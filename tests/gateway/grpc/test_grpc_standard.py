"""What gRPC's own tools ask of every server: its health, and which calls there are."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from gateway.grpc.standard import MAX_WATCHES
from gateway.http.keys import PREDICT
from tests.support.command import ServeCommand, serve_command, wait_until
from tests.support.grpc_frames import END_HEADERS, END_STREAM, HEADERS, INITIAL_WINDOW, call, connected, head
from tests.support.keys import add_key

SERVICE = "inference.GRPCInferenceService"
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
TIMEOUT_S = 20.0
HEALTH = "/grpc.health.v1.Health/"


@pytest.fixture(scope="module")
def channel(embedded: ServeCommand) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{embedded.state().grpc_port}") as channel:
        yield channel


def check(channel: grpc.Channel, service: str) -> int:
    request = health_pb2.HealthCheckRequest(service=service)
    return int(health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT_S).status)


class TestHealth:
    @pytest.mark.parametrize("service", ["", SERVICE, "grpc.health.v1.Health"])
    def test_every_service_has_a_status(self, channel: grpc.Channel, service: str) -> None:
        assert check(channel, service) == SERVING

    def test_an_unknown_service_is_not_found(self, channel: grpc.Channel) -> None:
        with pytest.raises(grpc.RpcError) as refused:
            check(channel, "other")
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        assert SERVICE in refused.value.details()

    def test_an_unknown_service_can_be_watched(self, channel: grpc.Channel) -> None:
        watched = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="other"))
        assert next(watched).status == UNKNOWN
        watched.cancel()

    def test_a_drain_is_seen_by_who_watches_and_does_not_wait_for_them(self, tmp_path: Path) -> None:
        with serve_command(tmp_path, "--engine", "embedded", FASHION_MNIST_DRAIN_S="2") as command:
            wait_until(lambda: command.times_ready() == 1 or command.process.poll() is not None, "ready")
            with grpc.insecure_channel(f"127.0.0.1:{command.state().grpc_port}") as channel:
                watched = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
                assert next(watched).status == SERVING
                command.process.send_signal(signal.SIGTERM)
                assert next(watched).status == NOT_SERVING
                assert check(channel, "") == NOT_SERVING
                assert next(watched, None) is None
                assert command.process.wait(10) == 0

    def test_watching_without_reading_does_not_hide_the_status_from_others(
        self, embedded: ServeCommand, channel: grpc.Channel
    ) -> None:
        with connected(embedded.state().grpc_port, (INITIAL_WINDOW, 0)) as client:
            client.send(*call(1, b"", HEALTH + "Watch"))
            assert client.read_until(HEADERS)
            watched = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
            assert next(watched).status == SERVING
            watched.cancel()

    def test_only_so_many_may_watch(self, embedded: ServeCommand, channel: grpc.Channel) -> None:
        stub, request = health_pb2_grpc.HealthStub(channel), health_pb2.HealthCheckRequest()
        channels = [grpc.insecure_channel(f"127.0.0.1:{embedded.state().grpc_port}", [("x", n)]) for n in range(5)]
        watches = [health_pb2_grpc.HealthStub(channels[n % 5]).Watch(request) for n in range(MAX_WATCHES + 1)]
        try:
            refused = 0
            for watch in watches:
                try:
                    next(watch)
                except grpc.RpcError as error:
                    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                    refused += 1
            assert refused == 1
            assert stub.Check(request, timeout=TIMEOUT_S).status == SERVING
        finally:
            for each in channels:
                each.close()

    def test_a_long_message_is_refused(self, channel: grpc.Channel) -> None:
        for name in ("Check", "Watch"):
            with pytest.raises(grpc.RpcError) as refused:
                list(channel.unary_stream(HEALTH + name)(bytes(10_000), timeout=TIMEOUT_S))
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    @pytest.mark.parametrize("message", [b"\xff\xff\xff", None])
    def test_a_message_that_is_none_is_refused(self, embedded: ServeCommand, message: bytes | None) -> None:
        with connected(embedded.state().grpc_port) as client:
            if message is None:
                client.send(head(1, path=HEALTH + "Check")._replace(flags=END_HEADERS | END_STREAM))
            else:
                client.send(*call(1, message, HEALTH + "Check"))
            assert client.status() == 3


class TestReflection:
    def test_a_client_without_our_proto_file_gets_a_prediction(self, channel: grpc.Channel) -> None:
        """As grpcurl does it: the calls and their messages by reflection alone."""
        database = ProtoReflectionDescriptorDatabase(channel)
        assert {SERVICE, "grpc.health.v1.Health"} <= set(database.get_services())
        service = DescriptorPool(database).FindServiceByName(SERVICE)
        method = service.FindMethodByName("ModelInfer")
        request, response = map(GetMessageClass, (method.input_type, method.output_type))
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer", request.SerializeToString, response.FromString)
        sent: Any = request(model_name="fashion_mnist", raw_input_contents=[bytes(784)])
        sent.inputs.add(name="images", datatype="UINT8", shape=[1, 28, 28])
        assert call(sent, timeout=TIMEOUT_S).outputs[0].name == "probabilities"

    def test_unknown_names_are_answered(self, channel: grpc.Channel) -> None:
        asked = [reflection_pb2.ServerReflectionRequest(file_containing_symbol="no.such.thing")]
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        (answer,) = stub.ServerReflectionInfo(iter(asked), timeout=TIMEOUT_S)
        assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_health_needs_no_key_and_reflection_does(tmp_path: Path) -> None:
    key, _ = add_key(tmp_path / "keys.json", PREDICT)
    environment = {"FASHION_MNIST_KEY_FILE": str(tmp_path / "keys.json")}
    with serve_command(tmp_path, "--engine", "embedded", **environment) as command:
        wait_until(lambda: command.times_ready() == 1 or command.process.poll() is not None, "ready")
        with grpc.insecure_channel(f"127.0.0.1:{command.state().grpc_port}") as channel:
            assert check(channel, "") == SERVING
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
            with pytest.raises(grpc.RpcError) as refused:
                list(stub.ServerReflectionInfo(iter(asked), timeout=TIMEOUT_S))
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
            metadata = [("authorization", f"Bearer {key}")]
            (answer,) = stub.ServerReflectionInfo(iter(asked), timeout=TIMEOUT_S, metadata=metadata)
            assert SERVICE in [service.name for service in answer.list_services_response.service]
            for name, status in (("/other.Service/Call", "UNAUTHENTICATED"), (HEALTH + "Other", "UNIMPLEMENTED")):
                with pytest.raises(grpc.RpcError) as refused:
                    channel.unary_unary(name)(b"", timeout=TIMEOUT_S)
                assert refused.value.code().name == status
