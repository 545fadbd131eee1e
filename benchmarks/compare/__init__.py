"""Compare the speed of Canton with other implementations in one interleaved run: `make bench`.

Every implementation runs in its own process, one timed repetition at a time, so that repetitions can be
interleaved and no process affects another's threads, allocator or compiler. Those processes import no part of
Canton except the implementation `canton` itself, so that an implementation can use another interpreter.
"""
