"""Whether the C library gives memory back."""

import subprocess
import sys

#: Threads that ask for a little at the same time, and then for nothing; the arenas that glibc has made for them.
SCRIPT = """
import ctypes, sys, threading
from dicom_node.allocator import give_memory_back

if sys.argv[1] == "told":
    give_memory_back()
together = threading.Barrier(8)
malloc, free = ctypes.CDLL(None).malloc, ctypes.CDLL(None).free
malloc.restype, free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def ask():
    blocks = [malloc(50_000) for _ in range(50)]
    together.wait()
    for block in blocks:
        free(block)

threads = [threading.Thread(target=ask) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc = ctypes.CDLL(None)
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


def arenas(told: str) -> int:
    done = subprocess.run([sys.executable, "-c", SCRIPT, told], capture_output=True, text=True, check=True)
    return done.stdout.count("<heap nr=")


def test_threads_share_an_arena():
    assert arenas("untold") > 1
    assert arenas("told") == 1
