"""The Open Inference Protocol over gRPC, by gRPC's own client."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashion_mnist.classes import CLASSES
from fashion_mnist.data.splits import Dataset
from fashion_mnist.encoding import encode_image
from fashion_mnist.engines import open_engine
from fashion_mnist.errors import BadTensor
from fashion_mnist.model_store import model_store_path, model_version
from fashion_mnist.settings import Settings
from gateway.protocols import inference_pb2 as pb
from gateway.protocols import wire
from gateway.protocols.oip_grpc import _varint
from tests.support.bodies import OCTET_STREAM, png_of_size
from tests.support.command import ServeCommand, serve_command, wait_until
from tests.support.grpc_calls import SERVICE, TIMEOUT_S, Stub, tensor, values

ROOT = Path(__file__).parents[3]
GARMENTS = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
VERSION = model_version(model_store_path(Settings()))

Call = Callable[..., Any]


@pytest.fixture(scope="module")
def embedded_stub(embedded: ServeCommand) -> Iterator[Stub]:
    stub = Stub(embedded)
    with stub.channel:
        yield stub


@pytest.fixture(scope="module")
def in_front_stub(in_front: ServeCommand) -> Iterator[Stub]:
    stub = Stub(in_front)
    with stub.channel:
        yield stub


@pytest.fixture(params=["embedded_stub", "in_front_stub"])
def stub(request: pytest.FixtureRequest) -> Stub:
    """Each engine's."""
    found: Stub = request.getfixturevalue(request.param)
    return found


def packed(*elements: bytes) -> bytes:
    return b"".join(len(element).to_bytes(4, "little") + element for element in elements)


FILES = [encode_image(image) for image in GARMENTS]
WAYS: dict[str, dict[str, Any]] = {
    "raw": {"inputs": [tensor("UINT8", [3, 1, 28, 28])], "raw_input_contents": [GARMENTS.tobytes()]},
    "typed": {"inputs": [tensor("UINT8", [3, 28, 28], uint_contents=GARMENTS.ravel().tolist())]},
    "raw files": {"inputs": [tensor("BYTES", [3])], "raw_input_contents": [packed(*FILES)]},
    "typed files": {"inputs": [tensor("BYTES", [3, 1], bytes_contents=FILES)]},
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_send_gives_our_own_answer(
    stub: Stub, request: pytest.FixtureRequest, embedded: ServeCommand, way: str
) -> None:
    response = stub.infer(id="mine", **WAYS[way])
    assert (response.model_name, response.model_version, response.id) == ("fashion_mnist", VERSION, "mine")
    assert bool(response.raw_output_contents) == way.startswith("raw")
    assert [list(output.shape) for output in response.outputs] == [[3, 10], [3], [3], [3], [3]]
    ours = httpx.post(embedded.url, content=GARMENTS.tobytes(), headers={"accept": OCTET_STREAM}, timeout=TIMEOUT_S)
    probabilities, found = np.frombuffer(ours.content, "<f4").reshape(-1, 10), values(response)
    # ONNX Runtime's last digits depend on the size of the batch.
    np.testing.assert_allclose(np.reshape(found["probabilities"], (3, 10)), probabilities, rtol=1e-4, atol=1e-7)
    assert found["index"] == probabilities.argmax(axis=1).tolist()
    assert found["label"] == [CLASSES[index].encode() for index in found["index"]]


def test_outputs_come_as_they_are_asked_for(embedded_stub: Stub) -> None:
    response = embedded_stub.infer(outputs=[{"name": "label"}, {"name": "index"}], **WAYS["raw"])
    assert list(values(response)) == ["label", "index"]


def test_many_calls_at_once_get_each_its_own_answer(stub: Stub, dataset: Dataset, model_store: Path) -> None:
    images = dataset.test.images[:1000]
    expected = open_engine(model_store, "onnx", "cpu").predict(images).argmax(axis=1).tolist()

    def ask(image: np.ndarray) -> Any:
        sent = {"inputs": [tensor("UINT8", [1, 28, 28])], "raw_input_contents": [image.tobytes()]}
        return values(stub.infer(outputs=[{"name": "index"}], **sent))["index"][0]

    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(ask, images)) == expected


def test_a_large_call(stub: Stub) -> None:
    """Both ways larger than any window: 10,000 images, and their probabilities."""
    images = np.random.default_rng(1).integers(0, 256, (10_000, 28, 28), dtype=np.uint8)
    response = stub.infer(inputs=[tensor("UINT8", [10_000, 28, 28])], raw_input_contents=[images.tobytes()])
    assert np.sum(values(response)["probabilities"]) == pytest.approx(10_000, abs=0.1)


def test_a_large_image_is_read_beside_the_others(embedded_stub: Stub) -> None:
    large = png_of_size(2000, 2000)
    assert values(embedded_stub.infer(inputs=[tensor("BYTES", [1], bytes_contents=[large])]))["label"]


def test_what_it_says_of_itself(stub: Stub) -> None:
    assert stub("ServerLive", pb.ServerLiveRequest()).live
    assert stub("ServerReady", pb.ServerReadyRequest()).ready
    for version, ready in (("", True), (VERSION, True), ("7", False)):
        assert stub("ModelReady", pb.ModelReadyRequest(name="fashion_mnist", version=version)).ready == ready
    assert not stub("ModelReady", pb.ModelReadyRequest(name="other")).ready
    assert list(stub("ServerMetadata", pb.ServerMetadataRequest()).extensions) == ["binary_tensor_data"]
    said = stub("ModelMetadata", pb.ModelMetadataRequest(name="fashion_mnist"))
    assert list(said.versions) == [VERSION]
    assert [(each.name, each.datatype, list(each.shape)) for each in said.inputs] == [
        ("images", "UINT8", [-1, 1, 28, 28])
    ]
    assert [each.name for each in said.outputs] == ["probabilities", "index", "label", "unknown", "unknown_score"]


def test_a_call_keeps_its_name_and_says_where_the_time_went(embedded_stub: Stub) -> None:
    call = embedded_stub.channel.unary_unary(
        f"{SERVICE}ModelInfer", pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
    )
    request = pb.ModelInferRequest(model_name="fashion_mnist", **WAYS["raw"])
    _, answered = call.with_call(request, metadata=[("x-request-id", "my-17")], timeout=TIMEOUT_S)
    metadata = {each.key: each.value for each in answered.trailing_metadata()}
    assert metadata["x-request-id"] == "my-17"
    assert "engine;dur=" in metadata["server-timing"]


IMAGE = GARMENTS[0].tobytes()
BAD: dict[str, dict[str, Any]] = {
    "no input": {},
    "two inputs": {"inputs": [tensor("UINT8", [1, 28, 28])] * 2, "raw_input_contents": [IMAGE] * 2},
    "another name": {
        "inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 28, 28]}],
        "raw_input_contents": [IMAGE],
    },
    "another type": {"inputs": [tensor("FP32", [1, 28, 28])], "raw_input_contents": [IMAGE]},
    "another shape": {"inputs": [tensor("UINT8", [1, 784])], "raw_input_contents": [IMAGE]},
    "no shape": {"inputs": [tensor("UINT8", [])], "raw_input_contents": [IMAGE]},
    "no images": {"inputs": [tensor("UINT8", [0, 28, 28])], "raw_input_contents": [b""]},
    "a negative shape": {"inputs": [tensor("UINT8", [-1, 28, 28])], "raw_input_contents": [IMAGE]},
    "too short": {"inputs": [tensor("UINT8", [1, 28, 28])], "raw_input_contents": [IMAGE[:-1]]},
    "too long": {"inputs": [tensor("UINT8", [1, 28, 28])], "raw_input_contents": [IMAGE + b"\0"]},
    "too many images": {"inputs": [tensor("UINT8", [2**40, 28, 28])], "raw_input_contents": [IMAGE]},
    "no contents": {"inputs": [tensor("UINT8", [1, 28, 28])]},
    "contents twice": {
        "inputs": [tensor("UINT8", [1, 28, 28], uint_contents=[0] * 784)],
        "raw_input_contents": [IMAGE],
    },
    "contents of another type": {"inputs": [tensor("UINT8", [1, 28, 28], int64_contents=[0] * 784)]},
    "a pixel of 256": {"inputs": [tensor("UINT8", [1, 28, 28], uint_contents=[256] * 784)]},
    "a file that is none": {"inputs": [tensor("BYTES", [1], bytes_contents=[b"nothing"])]},
    "a file too few": {"inputs": [tensor("BYTES", [2], bytes_contents=FILES[:1])]},
    "files without lengths": {"inputs": [tensor("BYTES", [1])], "raw_input_contents": [FILES[0]]},
    "an unknown output": {**WAYS["raw"], "outputs": [{"name": "logits"}]},
    "an output twice": {**WAYS["raw"], "outputs": [{"name": "label"}] * 2},
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_call_is_refused_with_a_reason(embedded_stub: Stub, name: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        embedded_stub.infer(**BAD[name])
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details()


INFER = f"{SERVICE}ModelInfer"
BOMBS = {
    "inputs": (INFER, b"\x2a\0", 100_000),
    "outputs": (INFER, b"\x32\0", 100_000),
    "raw contents": (INFER, b"\x3a\0", 100_000),
    "parameters": (INFER, b"\x22\0", 100_000),
    "unknown fields": (INFER, b"\xf8\x07\0", 100_000),
    "a shape": (INFER, b"\x18\x01", 100_000),
    "files": (INFER, b"\x42\0", 100_000),
    "numbers one by one": (INFER, b"\x20\0", 100_000),
    "numbers of another type": (INFER, b"\x1a\0", 100_000),
    "names": (f"{SERVICE}ServerMetadata", b"\x0a\0", 100_000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_many_little_messages_in_one_are_refused_unparsed(embedded_stub: Stub, name: str) -> None:
    """What would take a hundred times the room of what is sent."""
    path, unit, count = BOMBS[name]
    content = unit * count
    if name == "a shape":
        content = within(5, content)
    elif name in ("files", "numbers one by one", "numbers of another type"):
        content = within(5, within(5, content))
    with pytest.raises(grpc.RpcError) as refused:
        embedded_stub.channel.unary_unary(path)(content, timeout=TIMEOUT_S)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert any(
        words in refused.value.details() for words in ("beside the contents", "packed uint_contents", "shorter than")
    )


def within(number: int, content: bytes) -> bytes:
    """A message as a field of another."""
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


@given(st.lists(st.tuples(st.integers(1, 200), st.integers(0, 2**64 - 1) | st.binary(max_size=300)), max_size=20))
def test_fields_are_found_as_protobuf_finds_them(sent: list[tuple[int, int | bytes]]) -> None:
    message = b"".join(
        _varint(number << 3 | (2 if isinstance(value, bytes) else 0))
        + (_varint(len(value)) + value if isinstance(value, bytes) else _varint(value))
        for number, value in sent
    )
    found = list(wire.fields(message, 0, len(message)))
    assert [field.number for field in found] == [number for number, _ in sent]
    for field, (_, value) in zip(found, sent, strict=True):
        assert message[field.start : field.stop] == (value if isinstance(value, bytes) else _varint(value))
    for end in range(len(message)):
        try:
            assert list(wire.fields(message, 0, end)) == [field for field in found if field.stop <= end]
        except BadTensor:
            assert end not in [field.stop for field in found]


def test_what_is_not_there(embedded_stub: Stub) -> None:
    for change in ({"model_name": "other"}, {"model_version": "7"}):
        with pytest.raises(grpc.RpcError) as refused:
            embedded_stub.infer(**{**WAYS["raw"], **change})
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    call = embedded_stub.channel.unary_unary("/inference.GRPCInferenceService/ModelTrain")
    with pytest.raises(grpc.RpcError) as refused:
        call(b"", timeout=TIMEOUT_S)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    "value",
    [{}, {"bool_param": True}, {"int64_param": 1}, {"string_param": ""}, {"string_param": "auto" * 100}],
    ids=["nothing", "bool", "number", "empty", "long"],
)
def test_parameter_prepare_of_another_type_is_refused_in_our_words(embedded_stub: Stub, value: dict[str, Any]) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        embedded_stub.infer(**{**WAYS["raw"], "parameters": {"prepare": value}})
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "use auto" in refused.value.details()


def test_a_message_that_is_none(embedded_stub: Stub) -> None:
    call = embedded_stub.channel.unary_unary(f"{SERVICE}ModelInfer")
    with pytest.raises(grpc.RpcError) as refused:
        call(b"\xff\xff\xff", timeout=TIMEOUT_S)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_message_that_is_too_long(embedded_stub: Stub) -> None:
    content = bytes(784 * 22_000)
    with pytest.raises(grpc.RpcError) as refused:
        embedded_stub.infer(inputs=[tensor("UINT8", [22_000, 28, 28])], raw_input_contents=[content])
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in refused.value.details()


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_compressed_message_is_understood(embedded_stub: Stub, compression: grpc.Compression) -> None:
    request = pb.ModelInferRequest(model_name="fashion_mnist", **WAYS["raw"])
    assert embedded_stub("ModelInfer", request, compression=compression).outputs


def test_it_can_be_off(tmp_path: Path) -> None:
    with serve_command(tmp_path, "--engine", "embedded", FASHION_MNIST_GRPC="off") as command:
        wait_until(lambda: command.times_ready() == 1, "ready")
        assert command.state().grpc_port == 0


def test_calls_are_answered_while_it_drains_and_none_is_lost(tmp_path: Path) -> None:
    with serve_command(tmp_path, "--engine", "embedded") as command:
        wait_until(lambda: command.times_ready() == 1, "ready")
        stub, outcomes, stopped = Stub(command), list[str](), False

        def send() -> None:
            while not stopped:
                try:
                    stub.infer(**WAYS["raw"])
                    outcomes.append("right")
                except grpc.RpcError as error:
                    # Nobody listens any more: nothing was sent.
                    outcomes.append(f"{error.code().name} {error.details()}")
                    return

        with stub.channel, ThreadPoolExecutor(8) as pool:
            sent = [pool.submit(send) for _ in range(8)]
            try:
                wait_until(lambda: len(outcomes) > 200, "answers", 20)
                assert command.end() == 0
            finally:
                stopped = True
            assert all(future.result() is None for future in sent)
        wrong = [outcome for outcome in outcomes if outcome != "right"]
        assert all("onnect" in outcome and outcome.startswith("UNAVAILABLE") for outcome in wrong), wrong


def test_the_generated_code_is_what_protoc_makes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT}", f"--python_out={tmp_path}"]
    command += [f"--pyi_out={tmp_path}", "gateway/protocols/inference.proto"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)
    for name in ("inference_pb2.py", "inference_pb2.pyi"):
        made = (tmp_path / "gateway" / "protocols" / name).read_text()
        assert made == (ROOT / "gateway" / "protocols" / name).read_text(), "run `make proto`"
