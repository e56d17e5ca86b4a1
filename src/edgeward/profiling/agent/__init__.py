"""The part of profiling that runs on the device: the standard library, numpy and the engine.

`edgeward.profiling.bundle` packs this package, and one engine of `edgeward.runtimes`, into one file that
Python starts (3.8 or newer). It reads one request (JSON) from standard input, does it in a fresh process, and
writes one answer (JSON) to standard output; all other output of the process goes to standard error. It imports
nothing else of edgeward, so that it can be copied to a device as it is.

Requests
--------
All have ``task``, ``engine`` (name and settings, see `edgeward.runtimes.agent`), ``threads`` (0: every core that
the process may use) and ``affinity`` (cores, or null); all but ``describe`` also ``model``,
``sha256``, ``batch``, ``seed`` and ``input_range``.

``describe``
    answers with host, engine, and what can be read there.
``time`` with ``warmup {min_count, min_duration_s}``, ``min_duration_s, min_count,
max_duration_s``, ``stop {percentiles, confidence, half_width}`` or null, ``inputs {shape, uint8
(base64)}`` or null
    answers with the raw samples (ns), the conditions under which they were taken, and the logits
    of the given inputs.
``decide`` with ``inputs`` as above
    answers with the logits of the given inputs.
``cold``
    answers with the times of import, load and first inference of this process.
``operators`` with ``runs``
    answers with the kernels that execute, from the engine's own profiler.
``interleave`` with ``models, sha256s`` (instead of ``model``), ``rounds, settle, block,
max_duration_s, warmup``
    answers with samples of all models, taken in turns.
``kernels`` with ``models, sha256s, rounds, block_s, max_duration_s``
    answers with the times of blocks of all files, taken in turns.
``energy`` with ``power {counter, rails, idle_s, window_s, windows}``, ``warmup``
    answers with the readings of a counter, or why there is none.
``sustain`` with ``duration_s, window_s``, ``power`` and ``warmup`` as above, ``inputs``
    answers with what was seen in each window of minutes without a pause: some samples, how many there were, the
    conditions, the energy.

An answer is ``{"ok": true, ...}`` or ``{"ok": false, "kind", "message"}``; ``kind`` is one of
``affinity, engine, provider, model, input, run``.
"""
