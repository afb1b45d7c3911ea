"""Server reflection with grpcio's own client: what it learns is what Triton's client knows, and it can be called with
nothing else; many questions on one call, strange ones, silent ones, floods."""
import threading

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from h2wire import DATA, H2, frame, head
from harness import Worker, wait_for
from tritonclient.grpc import model_config_pb2, service_pb2

SERVICES = [
    "inference.GRPCInferenceService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
]
V1 = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
Request = reflection_pb2.ServerReflectionRequest


@pytest.fixture(scope="module")
def channel(gateway):
    with grpc.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        yield channel


def pool_of(channel):
    database = ProtoReflectionDescriptorDatabase(channel)
    assert list(database.get_services()) == SERVICES
    return descriptor_pool.DescriptorPool(database)


def ask(channel, *questions):
    return list(reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter(questions), timeout=20))


# ---- what is learnt ----------------------------------------------------------------------------------


def compare(ours, theirs):
    """Each field, enum value and method that we tell of is Triton's, by name, number and type."""
    for field in ours.fields:
        known = theirs.fields_by_name[field.name]
        assert (field.number, field.type, field.is_repeated) == (known.number, known.type, known.is_repeated), field.full_name
        assert (field.containing_oneof and field.containing_oneof.name) == (known.containing_oneof and known.containing_oneof.name)
        if field.message_type:
            assert field.message_type.full_name == known.message_type.full_name
            assert field.message_type.GetOptions().map_entry == known.message_type.GetOptions().map_entry
            compare(field.message_type, known.message_type)
        if field.enum_type:
            assert field.enum_type.full_name == known.enum_type.full_name
            known_values = {v.name: v.number for v in known.enum_type.values}
            assert {v.name: v.number for v in field.enum_type.values} == known_values


def whole(ours, theirs):
    """Nothing is left out but what a newer one has added, which has higher numbers."""
    newest = max(ours.fields_by_number, default=0)
    assert all(field.name in ours.fields_by_name or field.number > newest for field in theirs.fields), theirs.full_name
    for field in ours.fields:
        if field.message_type:
            whole(field.message_type, theirs.fields_by_name[field.name].message_type)


def test_what_is_told_is_what_others_know(channel):
    pool = pool_of(channel)
    service = pool.FindServiceByName(SERVICES[0])
    theirs = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert len(service.methods) == 9
    for method in service.methods:
        known = theirs.methods_by_name[method.name]
        for ours, other in ((method.input_type, known.input_type), (method.output_type, known.output_type)):
            assert ours.full_name == other.full_name
            compare(ours, other)
    config = pool.FindMessageTypeByName("inference.ModelConfig")
    assert config.file.name == "model_config.proto" and len(config.fields) >= 25
    whole(config, model_config_pb2.ModelConfig.DESCRIPTOR)
    health = pool.FindServiceByName(SERVICES[1])
    proto = descriptor_pb2.ServiceDescriptorProto()
    health.CopyToProto(proto)
    assert [(m.name, m.client_streaming, m.server_streaming) for m in proto.method] == [("Check", False, False), ("Watch", False, True)]
    for name in SERVICES[2:]:
        reflection = pool.FindServiceByName(name)
        known = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].methods[0]
        (method,) = reflection.methods
        for ours, other in ((method.input_type, known.input_type), (method.output_type, known.output_type)):
            assert [(f.name, f.number, f.type) for f in ours.fields] == [(f.name, f.number, f.type) for f in other.fields]


def test_a_call_by_what_was_learnt(channel):
    """A client that knew nothing infers."""
    method = pool_of(channel).FindServiceByName(SERVICES[0]).FindMethodByName("ModelInfer")
    request = message_factory.GetMessageClass(method.input_type)(model_name="digits")
    request.inputs.add(name="input", datatype="FP32", shape=[1, 64]).contents.fp32_contents.extend([0.5] * 64)
    request.parameters["timeout"].int64_param = 9000000
    answers = message_factory.GetMessageClass(method.output_type)
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", type(request).SerializeToString, answers.FromString)
    answer = call(request, timeout=20)
    assert answer.model_name == "digits" and len(answer.raw_output_contents) == len(answer.outputs) >= 1


def test_the_worker_tells_too():
    with Worker() as worker, grpc.insecure_channel(f"127.0.0.1:{worker.port}") as channel:
        test_what_is_told_is_what_others_know(channel)
        test_a_call_by_what_was_learnt(channel)


# ---- questions ---------------------------------------------------------------------------------------


def test_by_symbol_and_by_name(channel):
    found = {
        "inference.GRPCInferenceService": "grpc_service.proto",
        "inference.GRPCInferenceService.ModelInfer": "grpc_service.proto",
        "inference.ModelInferRequest.InferInputTensor": "grpc_service.proto",
        "inference.ModelInferRequest.InferInputTensor.shape": "grpc_service.proto",
        "inference.TYPE_FP16": "model_config.proto",
        "inference.ModelConfig.cc_model_filenames": "model_config.proto",
        "inference.ModelSequenceBatching.Control.CONTROL_SEQUENCE_END": "model_config.proto",
        "grpc.health.v1.HealthCheckResponse.SERVING": "grpc/health/v1/health.proto",
        "grpc.reflection.v1.ServerReflection": "grpc/reflection/v1/reflection.proto",
        "grpc.reflection.v1alpha.ErrorResponse": "grpc/reflection/v1alpha/reflection.proto",
    }
    answers = ask(channel, *[Request(file_containing_symbol=s) for s in found], *[Request(file_by_filename=f) for f in found.values()])
    for answer, name in zip(answers, list(found.values()) * 2, strict=True):
        (octets,) = answer.file_descriptor_response.file_descriptor_proto
        assert descriptor_pb2.FileDescriptorProto.FromString(octets).name == name
    unknown = ["", ".", "inference", "inference.", "inference.Model", "inference.ModelInferRequest.", "inference.ModelInferRequest.x", "x" * 3000,
               "inference.DataType.TYPE_FP16.x", "grpc.health", "grpc.health.v1", "grpc.health.v1.Health.Check.x"]  # fmt: skip
    for answer in ask(channel, *[Request(file_containing_symbol=s) for s in unknown], *[Request(file_by_filename=s) for s in unknown]):
        assert answer.error_response.error_code == 5 and answer.HasField("original_request"), answer


def test_other_questions(channel):
    extension = reflection_pb2.ExtensionRequest(containing_type="inference.ModelConfig", extension_number=4)
    answers = ask(channel, Request(host="h", list_services="*"), Request(file_containing_extension=extension),
                  Request(all_extension_numbers_of_type="inference.ModelConfig"), Request(host="h"))  # fmt: skip
    assert [s.name for s in answers[0].list_services_response.service] == SERVICES and answers[0].original_request.host == "h"
    assert [a.error_response.error_code for a in answers[1:]] == [5, 5, 12]
    assert ask(channel) == []  # none at all: an answer of nothing


def test_one_after_the_other_on_one_call(channel):
    """Each has its answer before the next is asked, as long as one likes."""
    questions, ready = [Request(list_services="")] * 200, threading.Semaphore(1)

    def one_by_one():
        for question in questions:
            assert ready.acquire(timeout=20)
            yield question

    call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(one_by_one(), timeout=60)
    for n, _ in enumerate(call, 1):
        ready.release()
    assert n == len(questions) and call.code() == grpc.StatusCode.OK


# ---- by hand -----------------------------------------------------------------------------------------

FIELDS = [(":method", "POST"), (":scheme", "http"), (":authority", "h"), (":path", V1), ("content-type", "application/grpc"), ("te", "trailers")]


def message(octets, flag=0):
    return bytes([flag]) + len(octets).to_bytes(4, "big") + octets


LIST = message(Request(list_services="").SerializeToString())


def status_of(h2, stream):
    assert h2.until(lambda: "grpc-status" in h2.headers.get(stream, {}) or stream in h2.resets), (h2.headers, h2.resets)
    return h2.headers[stream].get("grpc-status")


@pytest.mark.parametrize(
    "octets, end, status",
    [
        (LIST + LIST[:3], 1, "13"),  # cut off
        (LIST[:-1], 1, "13"),
        (message(b"", flag=1), 0, "12"),
        (message(b"\xff"), 0, "3"),
        (b"\0\x7f\xff\xff\xff", 0, "8"),
        (LIST * 3, 1, "0"),
        (b"", 1, "0"),
    ],
)
def test_messages_that_are_none(gateway, octets, end, status):
    with H2(gateway) as h2:
        h2.send(head(1, FIELDS, False) + frame(DATA, end, 1, octets))
        assert status_of(h2, 1) == status
        assert h2.bodies.get(1, b"").count(b"grpc.health.v1.Health") == octets.count(LIST) and h2.goaway is None


def test_byte_by_byte(gateway):
    with H2(gateway) as h2:
        h2.send(head(1, FIELDS, False))
        for octet in LIST * 2:
            h2.send(frame(DATA, 0, 1, bytes([octet])))
        assert h2.until(lambda: h2.bodies.get(1, b"").count(b"grpc.health.v1.Health") == 2)
        h2.send(frame(DATA, 1, 1))
        assert status_of(h2, 1) == "0"


def test_a_flood_of_questions(gateway):
    """Asked ahead without reading an answer: so much waits, and then the stream is reset. The connection lives."""
    before = gateway.metric("sluice_bytes_in_flight")
    with H2(gateway, settings=b"\0\4\0\0\0\0") as h2:  # no window for answers
        h2.send(head(1, FIELDS, False))
        for _ in range(40):
            h2.send(frame(DATA, 0, 1, LIST * (16000 // len(LIST))))
        assert h2.until(lambda: 1 in h2.resets or h2.wire.closed)
        assert h2.resets[1] == 11  # ENHANCE_YOUR_CALM
    wait_for(lambda: gateway.metric("sluice_bytes_in_flight") <= before)


def test_clients_that_leave(gateway, channel):
    call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([Request(list_services="")] * 3))
    next(call)
    call.cancel()
    with H2(gateway) as h2:
        h2.send(head(1, FIELDS, False) + frame(DATA, 0, 1, LIST + LIST[:2]))
        assert h2.until(lambda: h2.bodies.get(1))
    wait_for(lambda: gateway.metric("sluice_streams") == 0)
