"""A worker that answers what it was given: echo_worker.py --listen ADDRESS. One model a datatype, named after it
in small letters (fp32, bytes, ...), input x and output y, both of any two dimensions; and `told`, which
answers what the request said of itself (id, parameters, requested outputs) as one JSON text in BYTES y."""
import argparse
import json
import os
import sys
from concurrent import futures

import grpc
from tritonclient.grpc import model_config_pb2, service_pb2

DATATYPES = "BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 BF16 FP32 FP64 BYTES".split()
MODELS = {d.lower(): d for d in DATATYPES}
MODELS["told"] = "FP32"


def metadata(name):
    answer = service_pb2.ModelMetadataResponse(name=name, versions=["1"], platform="echo")
    answer.inputs.add(name="x", datatype=MODELS[name], shape=[-1, -1])
    answer.outputs.add(name="y", datatype="BYTES" if name == "told" else MODELS[name], shape=[-1, -1])
    return answer


def param(p):
    return getattr(p, p.WhichOneof("parameter_choice"))


def told(q):
    outputs = [{"name": o.name, **{k: param(v) for k, v in o.parameters.items()}} for o in q.outputs]
    said = {"id": q.id, "version": q.model_version, "outputs": outputs, "parameters": {k: param(v) for k, v in q.parameters.items()}}
    return json.dumps(said).encode()


def infer(q):
    answer = service_pb2.ModelInferResponse(model_name=q.model_name, model_version="1", id=q.id)
    if q.model_name == "told":
        text = told(q)
        answer.outputs.add(name="y", datatype="BYTES", shape=[1, 1])
        answer.raw_output_contents.append(len(text).to_bytes(4, "little") + text)
    else:
        answer.outputs.add(name="y", datatype=q.inputs[0].datatype, shape=q.inputs[0].shape)
        answer.raw_output_contents.append(q.raw_input_contents[0])
    return answer


def call(method, octets):
    s = service_pb2
    if method in ("ServerLive", "ServerReady", "ModelReady"):
        return b"\x08\x01"
    if method == "ServerMetadata":
        return s.ServerMetadataResponse(name="echo", version="1").SerializeToString()
    if method == "RepositoryIndex":
        answer = s.RepositoryIndexResponse()
        for name in MODELS:
            answer.models.add(name=name, version="1", state="READY")
        return answer.SerializeToString()
    if method == "ModelMetadata":
        return metadata(s.ModelMetadataRequest.FromString(octets).name).SerializeToString()
    if method == "ModelConfig":
        name = s.ModelConfigRequest.FromString(octets).name
        config = model_config_pb2.ModelConfig(name=name, max_batch_size=0 if name == "told" else 16)
        return s.ModelConfigResponse(config=config).SerializeToString()
    return infer(s.ModelInferRequest.FromString(octets)).SerializeToString()


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        method = details.method.rsplit("/", 1)[1]
        return grpc.unary_unary_rpc_method_handler(lambda octets, context: call(method, octets))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", required=True)
    args, _ = parser.parse_known_args()
    size = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(8), [Handler()], options=size)
    port = server.add_insecure_port(args.listen)
    server.start()
    os.write(2, (json.dumps({"event": "up", "port": port}) + "\n").encode())  # whole: others write there too
    server.wait_for_termination()


if __name__ == "__main__":
    main()
