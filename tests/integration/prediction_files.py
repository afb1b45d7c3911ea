"""Reads what the prediction log has written: whole zstd frames of JSON lines."""
import ctypes
import ctypes.util
import json

ZSTD = ctypes.CDLL(ctypes.util.find_library("zstd") or "libzstd.so.1")
ZSTD.ZSTD_findFrameCompressedSize.restype = ctypes.c_size_t
ZSTD.ZSTD_findFrameCompressedSize.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
ZSTD.ZSTD_getFrameContentSize.restype = ctypes.c_ulonglong
ZSTD.ZSTD_getFrameContentSize.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
ZSTD.ZSTD_decompress.restype = ctypes.c_size_t
ZSTD.ZSTD_decompress.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t]


ZSTD.ZSTD_compressBound.restype = ctypes.c_size_t
ZSTD.ZSTD_compressBound.argtypes = [ctypes.c_size_t]
ZSTD.ZSTD_compress.restype = ctypes.c_size_t
ZSTD.ZSTD_compress.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def frame(text):
    """Bytes as one frame."""
    most = ZSTD.ZSTD_compressBound(len(text))
    out = ctypes.create_string_buffer(most)
    n = ZSTD.ZSTD_compress(out, most, text, len(text), 1)
    return out.raw[:n]


def frames(data):
    """The text of the whole frames that data begins with, and how many of its bytes they are."""
    at, text = 0, b""
    buffer = ctypes.create_string_buffer(data, len(data) + 1)
    while at < len(data):
        here = ctypes.addressof(buffer) + at
        size = ZSTD.ZSTD_findFrameCompressedSize(here, len(data) - at)
        if size > len(data) - at or size == 0:  # an error is a very large number
            break
        content = ZSTD.ZSTD_getFrameContentSize(here, len(data) - at)
        out = ctypes.create_string_buffer(max(content, 1))
        assert ZSTD.ZSTD_decompress(out, content, here, size) == content
        text += out.raw[:content]
        at += size
    return text, at


def records(directory, closed=False):
    """All of them, file by file in the order of the names. closed: only of files that are; these are whole."""
    found = []
    for path in sorted(directory.glob("*.jsonl.zst" if closed else "*.jsonl.zst*")):
        try:
            data = path.read_bytes()
        except FileNotFoundError:  # it is renamed just now
            return records(directory, closed)
        text, whole = frames(data)
        assert path.suffix == ".part" or whole == len(data), path
        found += [json.loads(line) for line in text.splitlines()]
    return found


def assert_ascending(found):
    """By instance and loop, none twice."""
    last = {}
    for r in found:
        key = tuple(int(n) for n in r["record"].split("-"))
        place = r["instance"], r["loop"]
        assert place not in last or key > last[place], (place, last[place], key)
        last[place] = key
