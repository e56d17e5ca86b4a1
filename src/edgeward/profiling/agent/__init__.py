"""The part of profiling that runs on the device: the standard library, numpy and the engine.

`edgeward.profiling.bundle` packs this package into one file that Python starts (3.8 or newer). It
reads one request (JSON) from standard input, does it in a fresh process, and writes one answer
(JSON) to standard output; all other output of the process goes to standard error. It imports
nothing of edgeward, so that it can be copied to a device as it is.

Requests
--------
``{"task": "time", "model", "sha256", "providers", "threads", "spinning", "batch", "seed",
"input_range", "image_size", "warmup": {"min_count", "min_duration_s"}, "min_duration_s",
"min_count", "max_duration_s"}``
    answers with the raw samples (ns) and the conditions under which they were taken.
``{"task": "operators", ..., "runs"}``
    answers with the kernels that execute, from the engine's own profiler.

``threads`` 0 means every core that the process may use. An answer is ``{"ok": true, ...}`` or
``{"ok": false, "kind", "message"}``; ``kind`` is one of ``engine``, ``provider``, ``model``,
``input``, ``run``.
"""
