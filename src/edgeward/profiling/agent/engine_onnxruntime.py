"""onnxruntime, with any of its execution providers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from .errors import AgentError


class OnnxRuntimeSession:
    """A model in onnxruntime, with its inputs and outputs bound to host memory."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._binding = session.io_binding()
        self.providers = session.get_providers()
        self.inputs = [
            (i.name, i.type, [side if isinstance(side, int) else None for side in i.shape])
            for i in session.get_inputs()
        ]

    def bind(self, feed: dict[str, Any]) -> Callable[[], Any]:
        """Return a function that runs one inference on `feed`."""
        self._feed = feed  # the binding only points at the arrays
        binding = self._session.io_binding()
        for name, array in feed.items():
            binding.bind_cpu_input(name, array)
        for output in self._session.get_outputs():
            binding.bind_output(output.name, "cpu")
        self._binding = binding
        return partial(self._session.run_with_iobinding, binding)

    def outputs(self) -> list[Any]:
        """Return the outputs of the latest inference."""
        return self._binding.copy_outputs_to_cpu()

    def end_profiling(self) -> str:
        """Return the path of the record of the kernels, which is now complete."""
        return self._session.end_profiling()


class OnnxRuntime:
    """onnxruntime with named execution providers.

    Settings: ``providers``, ``provider_options`` {provider: {key: value}}, ``spinning``.
    """

    name = "onnxruntime"

    def __init__(self, settings: dict[str, Any]) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise AgentError("engine", f"onnxruntime cannot be imported: {error}") from error
        self._ort = onnxruntime
        self._settings = settings
        self.version = onnxruntime.__version__
        there = self.available()
        missing = [name for name in settings["providers"] if name not in there]
        if missing:
            raise AgentError(
                "provider", f"{', '.join(missing)} (this build has {', '.join(there)})"
            )

    def available(self) -> list[str]:
        """Return the providers that this build has."""
        return list(self._ort.get_available_providers())

    def open(
        self,
        model: str | bytes,
        threads: int,
        batch: int,  # noqa: ARG002 - stays dynamic here
        shared: bool = False,
        profile: tuple[str, bool] | None = None,
    ) -> OnnxRuntimeSession:
        """Open a model.

        Parameters
        ----------
        threads : of the intra-op pool, the calling one included.
        batch : not used here; a dynamic batch stays dynamic.
        shared : whether other sessions of the process run in turn with this one: its threads then
            stop spinning when its inference ends.
        profile : where to write a record of the kernels, and whether to pack the weights.
        """
        ort = self._ort
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        spinning = "1" if self._settings["spinning"] else "0"
        options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
        if shared:
            options.add_session_config_entry("session.force_spinning_stop", "1")
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = profile[0]
            if not profile[1]:
                options.add_session_config_entry("session.disable_prepacking", "1")
        wanted = self._settings["providers"]
        per_provider = self._settings["provider_options"]
        try:
            session = ort.InferenceSession(
                model,
                options,
                providers=wanted,
                provider_options=[per_provider.get(name, {}) for name in wanted],
            )
        except Exception as error:  # the engine has a dozen exception types of its own
            raise AgentError("model", str(error)) from error
        refused = [name for name in wanted if name not in session.get_providers()]
        if refused:
            raise AgentError(
                "provider",
                f"{', '.join(refused)} did not start (active: {session.get_providers()}; "
                f"this build has {', '.join(self.available())})",
            )
        return OnnxRuntimeSession(session)
