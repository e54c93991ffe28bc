#!/usr/bin/env python3
"""libsley.so in a process that was not linked with it: loaded by dlopen, a fiber calls back into Python.

usage: test_dlopen.py LIBSLEY_SO VERSION"""
import ctypes
import sys

path, version = sys.argv[1:]
sley = ctypes.CDLL(path)
fiber_function = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
NOW, FOREVER = 0, 2**63 - 1

sley.sley_version_string.restype = ctypes.c_char_p
sley.sley_run.argtypes = [ctypes.c_void_p, fiber_function, ctypes.c_void_p]
sley.sley_self.restype = ctypes.c_uint64
sley.sley_sleep.argtypes = [ctypes.c_int64]
sley.sley_chan_create.restype = ctypes.c_void_p
sley.sley_chan_create.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
sley.sley_chan_send.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
sley.sley_chan_recv.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
sley.sley_chan_close.argtypes = [ctypes.c_void_p]
sley.sley_chan_destroy.argtypes = [ctypes.c_void_p]

assert sley.sley_version_string().decode().split()[0] == version, sley.sley_version_string()
major, minor, patch = map(int, version.split('.'))
assert sley.sley_version() == major * 10000 + minor * 100 + patch

# On a plain thread: a channel is created, carries a message and goes.
chan = sley.sley_chan_create(8, 1)
assert chan
message, got = ctypes.c_uint64(7), ctypes.c_uint64(0)
assert sley.sley_chan_send(chan, ctypes.byref(message), NOW) == 0
assert sley.sley_chan_recv(chan, ctypes.byref(got), NOW) == 1 and got.value == 7
sley.sley_chan_close(chan)
assert sley.sley_chan_recv(chan, ctypes.byref(got), FOREVER) == 0
sley.sley_chan_destroy(chan)

# A fiber that calls back. It does not wait while Python's frames are on its stack: the interpreter's lock belongs to a thread.
seen = []


@fiber_function
def main(arg):
    seen.append((arg, sley.sley_self()))
    return 42


assert sley.sley_self() == 0
for turn in (1, 2): # a second runtime in the process finds nothing left over from the first
    assert sley.sley_run(None, main, turn) == 42
assert [arg for arg, _ in seen] == [1, 2], seen
assert all(fiber != 0 for _, fiber in seen), seen
