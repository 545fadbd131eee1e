"""One module for each implementation.

``build(name, work, threads)`` returns a function that runs the workload once; ``versions()`` returns the
versions of its libraries. `build` raises NotImplementedError, with the reason, where there is no such
implementation.
"""
