"""Where our answers differ from a Triton's, and why: reason -> what is recorded, what we say, and of which requests.

Beside them: what Triton calls its own fault (500) although the client's text or type is wrong is the client's here, 400.
"""

DIFFERENCES = {
    "What cannot be meant is not computed: arrays that do not follow the shape, numbers that do not fit, members, outputs and bytes twice.": (
        ("json: nested once too often", 200, 400), ("json: nested otherwise", 200, 400), ("json: ragged", 200, 400), ("json: a hundred and fifty brackets", 200, 400),
        ("json: a number too large", 200, 400), ("json: INT32: past its limit", 200, 400), ("json: UINT8: past its limit", 200, 400),
        ("json: a key twice", 200, 400), ("json: an output twice", 200, 400),
        ("grpc: infer: an output twice", "OK", "INVALID_ARGUMENT"), ("grpc: infer: raw too many", "OK", "INVALID_ARGUMENT"),
    ),
    "More rows than a batch takes are answered in parts; no rows are answered by none.": (
        ("json: a row too many", 400, 200), ("json: no rows", 400, 200), ("binary: raw, nothing", 400, 200),
        ("grpc: infer: a row too many", "INVALID_ARGUMENT", "OK"), ("grpc: infer: no rows", "INVALID_ARGUMENT", "OK"),
    ),
    "Optional members that are null are not there, as KServe's and MLServer's clients mean it; in float data null is NaN.": (
        ("json: an id that is null", 500, 200), ("json: outputs that are null", 500, 200), ("json: parameters that are null", 500, 200),
        ("json: a parameter that is null", 400, 200), ("json: null among numbers", 500, 200), ("binary: data that is null", 400, 200), ("post: index, ready null", 500, 200),
    ),
    "Memory is not shared over a network, and models are loaded where they are served.": (
        ("json: shared memory of an input", 404, 400), ("json: shared memory of an output", 404, 400), ("post: shared memory", 500, 404),
        ("post: load", 503, 404), ("grpc: RepositoryModelLoad", "UNAVAILABLE", "UNIMPLEMENTED"),
    ),
    "What is not there is 404 (NOT_FOUND) in every call; a name that none can have is a bad request.": (
        ("get: no version, ready", 400, 404), ("get: no model, ready", 400, 404), ("get: no version, statistics", 400, 404), ("get: no model, statistics", 400, 404),
        ("grpc: ModelStatistics of twice, version 2", "INVALID_ARGUMENT", "NOT_FOUND"), ("grpc: ModelStatistics of nobody", "INVALID_ARGUMENT", "NOT_FOUND"),
        ("grpc: ModelStatistics of nobody, version 1", "INVALID_ARGUMENT", "NOT_FOUND"), ("grpc: infer: version v1", "INVALID_ARGUMENT", "NOT_FOUND"),
        ("grpc: infer: no model", "NOT_FOUND", "INVALID_ARGUMENT"), ("grpc: ModelMetadata of no name", "NOT_FOUND", "INVALID_ARGUMENT"),
        ("grpc: ModelConfig of no name", "NOT_FOUND", "INVALID_ARGUMENT"), ("get: model, of many bytes", 404, 400),
    ),
    "A path has one form: what is escaped and need not be is the same path (RFC 3986, 6.2.2.2).": (("get: model, escaped", 404, 200),),
    "Versions are texts: servers are there that name them v1.0.": (("json: version 03", 200, 404),),
    "415 is what HTTP has for a media type or a coding that is not read.": (("json: as text", 200, 415), ("json: a coding that nobody has", 501, 415)),
    "JSON is UTF-8: Triton's answer, or its refusal, is none.": (
        ("json: bytes that are no UTF-8", 400, 400), ("binary: BYTES out as JSON that are no UTF-8", 200, 400),
    ),
}  # fmt: skip
