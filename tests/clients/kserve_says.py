"""KServe's clients, REST and gRPC, ask the server of that port: kserve_says.py PORT ROWS, a JSON array of rows of model digits.
Prints one JSON object: {line's name: what came}."""
import asyncio
import json
import logging
import sys

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

ROWS = np.array(json.loads(sys.argv[2]), np.float32)
PORT = sys.argv[1]


def request_of(rows, model="digits", binary=None, **more):
    tensor = InferInput("input", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows, **({} if binary is None else {"binary_data": binary}))
    return InferRequest(model_name=model, infer_inputs=[tensor], **more)


def told(answer):
    outputs = [[o.name, list(o.shape), o.datatype, [f"{v:.3g}" for v in o.as_numpy().ravel().tolist()]] for o in answer.outputs]
    parameters = {k: getattr(v, "WhichOneof", lambda _: None)("parameter_choice") or v for k, v in (answer.parameters or {}).items()}
    return {"id": answer.id, "model": answer.model_name, "version": answer.model_version, "outputs": outputs, "parameters": sorted(parameters)}


def by_rest():
    client, base = InferenceRESTClient(RESTConfig(protocol="v2", retries=0)), f"http://127.0.0.1:{PORT}"
    infer = lambda q: client.infer(base, q, model_name=q.model_name)  # noqa: E731
    return client.close, infer, lambda name, *words: getattr(client, name)(base, *words), (False, True)


def by_grpc():
    client = InferenceGRPCClient(f"127.0.0.1:{PORT}", retries=0)
    return client.close, client.infer, lambda name, *words: getattr(client, name)(*words), (None,)


async def asked(name, call, said):
    try:
        answer = await call
    except httpx.HTTPStatusError as e:
        said[name] = f"{e.response.status_code} {e.response.text}"
    except grpc.RpcError as e:
        said[name] = f"{e.code()} {e.details()}"
    else:
        said[name] = json.dumps(told(answer) if hasattr(answer, "outputs") else answer, sort_keys=True)


async def script(kind, client, said):
    close, infer, control, forms = client
    for name, *words in (("is_server_live",), ("is_server_ready",), ("is_model_ready", "digits"), ("is_model_ready", "nobody")):
        await asked(f"{kind} {name} {words}", control(name, *words), said)
    for binary in forms:
        ask = lambda name, rows, **more: asked(f"{kind} binary={binary} {name}", infer(request_of(rows, binary=binary, request_id=name, **more)), said)  # noqa: E731, B023
        await ask("one", ROWS[:1])
        await ask("many", ROWS[:20])
        await ask("parameters", ROWS[:2], parameters={"a": 1, "b": "x", "c": True})
        await ask("no model", ROWS[:1], model="nobody")
        await ask("wrong shape", ROWS[:1, :63])
        await asyncio.gather(*[ask(f"at once {n}", ROWS[n : n + 1]) for n in range(20)])
    await close()


async def all_of_it():
    said = {}
    for kind, client in (("rest", by_rest), ("grpc", by_grpc)):
        await script(kind, client(), said)
    print(json.dumps(said))


logging.disable()
asyncio.run(all_of_it())
