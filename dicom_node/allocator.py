"""The C library's allocator, told to give memory back.

By itself glibc keeps an arena for each of many threads, and what was asked for once, for one large or hostile message,
stays with the process: 10,000 hostile conversations took a node from 159 to 250 MB. Other C libraries are not told.
"""

import ctypes

#: Parameters of mallopt(3): threads that have arenas of their own, and bytes from which memory is given back.
_ARENAS, _TRIM, _MAP = -8, -1, -3
_LARGE = 128 << 10


def give_memory_back() -> None:
    """For the process, from now on; to be called before it has threads."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        # Threads of Python seldom allocate at once, so that one arena does. Setting the other two keeps glibc from
        # raising them with each large block that is freed.
        for parameter, value in ((_ARENAS, 1), (_TRIM, _LARGE), (_MAP, _LARGE)):
            mallopt(parameter, value)
