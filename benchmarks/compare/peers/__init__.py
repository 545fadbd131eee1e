"""One module a contestant: ``build(name, work, threads)`` makes one repetition, ``versions()`` says by what.

`build` raises NotImplementedError, with the reason, for work the contestant has no way to do.
"""
