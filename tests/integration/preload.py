"""C that stands before libc in a program under test."""
import os
import shlex
import subprocess

import pytest
from harness import ROOT, SANITIZED


def preloadable(source, directory):
    """A C file of this folder as a shared object; it cannot stand before a sanitizer's own."""
    if SANITIZED:
        pytest.skip("LD_PRELOAD and a sanitizer's interceptors exclude each other")
    path = directory / f"{source}.so"
    words = [*shlex.split(os.environ.get("CC", "cc")), "-shared", "-fPIC", "-O1", "-std=gnu17", "-Wall", "-Werror"]
    done = subprocess.run([*words, "-o", path, ROOT / "tests" / "integration" / source, "-ldl"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return path
