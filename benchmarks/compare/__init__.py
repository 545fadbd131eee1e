"""Canton against its peers, side by side in one run: `make bench`.

Every contestant lives in a process of its own and does one repetition when told to, so that the repetitions
of all can be interleaved and nobody's threads, allocator or compiler touch another's. What runs in those
processes imports nothing of Canton's but this package, so that a peer may live in an interpreter of its own.
"""
