"""The loop that empties one outbox into one store."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgeward.core.errors import UserError
from edgeward.tracking.address import without_credentials
from edgeward.tracking.entry import read_entry
from edgeward.tracking.live import curves
from edgeward.tracking.locks import busy
from edgeward.tracking.outbox import pending

if TYPE_CHECKING:
    from edgeward.tracking.runs import Delivery

POLL_S = 1.0
LONGEST_PAUSE_S = 30.0
GRACE_S = 3.0  # for what is being delivered when the workflow is killed
ATTEMPTS = 4  # for an entry that fails while the store itself answers
logger = logging.getLogger(__name__)


class Deliverer:
    """The loop around one outbox and one store."""

    def __init__(
        self, outbox: Path, uri: str, experiment: str, watch: int | None, patience_s: float
    ):
        self.outbox = outbox
        self.uri = uri
        self.experiment = experiment
        self.watch = watch
        self._born = _birth(watch) if watch is not None else None
        self.patience_s = patience_s
        self.stopping = False
        self._delivery: Delivery | None = None
        self._attempts: dict[str, int] = {}
        self._failures = 0
        self._retry_at = 0.0
        self.count = 0

    def stop(self, *_: object) -> None:
        """Finish what is waiting, then end (signal handler)."""
        self.stopping = True

    def _followed(self) -> bool:
        return not self.stopping and self._born is not None and _birth(self.watch) == self._born

    def end_after_kill(self) -> None:
        """End this process soon after the followed one was killed, even in the middle of a request.

        Whatever is left is delivered by the next run; a delivery that is cut short is found again.
        """

        def watch() -> None:
            while self._followed() or self.stopping:
                time.sleep(POLL_S)
            time.sleep(GRACE_S)
            if not self.stopping:
                logger.warning("the workflow was killed; its next run delivers what is left")
                os._exit(1)

        if self._born is not None:
            threading.Thread(target=watch, daemon=True).start()

    def wait_for(self, attempt: Callable[[], bool]) -> bool:
        """Try until it succeeds, as long as the followed process lives and nobody asks to stop."""
        while not attempt():
            if not self._followed():
                return False
            time.sleep(POLL_S)
        return True

    def run(self) -> int:
        """Deliver until the followed process is gone and the outbox is empty.

        Returns
        -------
        0, or 1 if entries remain that could not be delivered within the patience, counted from the
        last progress.
        """
        last_progress = time.monotonic()
        following = True
        while True:
            before = following
            following = self._followed()
            if before and not following:
                last_progress = time.monotonic()
                self._retry_at = 0.0  # do not sit out a long pause now
            if self._round():
                last_progress = time.monotonic()
                continue
            if not following:
                if not pending(self.outbox):
                    break
                if time.monotonic() - last_progress > self.patience_s:
                    break
            time.sleep(POLL_S if following else min(POLL_S, 0.2))
        if self._delivery is not None and not pending(self.outbox):
            self._try(self._delivery.curves.pause)
            self._try(self._tidy)
        return self._conclude()

    def _round(self) -> bool:
        """Deliver curves and at most one entry; tell whether an entry left the outbox."""
        if time.monotonic() < self._retry_at:
            return False
        entries, live = pending(self.outbox), curves(self.outbox)
        if not entries and not live:
            return False
        with busy(self.outbox) as allowed:
            if not allowed:
                return False
            if self._delivery is None and not self._try(self.open):
                return False
            return self._live() and bool(entries) and self._entry(entries[0])

    def open(self) -> None:
        from edgeward.tracking.experiment import ExperimentStore, study_of
        from edgeward.tracking.runs import Delivery
        from edgeward.tracking.store import init_store

        client, experiment_id = init_store(self.uri, self.experiment)
        self.outbox.mkdir(parents=True, exist_ok=True)
        store = ExperimentStore(client, experiment_id, study_of(self.outbox))
        self._delivery = Delivery(store, self.uri, self.outbox)

    def _tidy(self) -> None:
        from edgeward.tracking.tidy import keep_days, tidy

        assert self._delivery is not None
        tidy(self._delivery.store, self.uri, keep_days())

    def _try(self, action: Callable[[], None]) -> bool:
        try:
            action()
        except UserError:
            raise
        except Exception as error:
            self._away(error)
            return False
        self._failures = 0
        return True

    def _away(self, error: Exception) -> None:
        """Note that the store did not answer, and when to ask again."""
        self._failures += 1
        pause = min(2.0 ** (self._failures - 1), LONGEST_PAUSE_S)
        self._retry_at = time.monotonic() + pause
        logger.warning(
            "the store cannot take entries now, again in %.0f s: %s", pause, _short(error)
        )

    def _answers(self) -> bool:
        """Ask the store for something, so that a bad entry is told from a store that is away."""
        assert self._delivery is not None
        try:
            self._delivery.client.set_experiment_tag(
                self._delivery.store.experiment_id, "edgeward.delivered_at", str(int(time.time()))
            )
        except Exception:
            return False
        return True

    def _live(self) -> bool:
        """Deliver all live curves; False if the store is away."""
        from edgeward.tracking.store import refused

        assert self._delivery is not None
        for header in curves(self.outbox):
            try:
                self._delivery.curves.deliver(header)
            except FileNotFoundError:
                continue
            except Exception as error:
                if refused(error):
                    self._set_aside(header.path, error)
                else:
                    self._away(error)
                    return False
        return True

    def _entry(self, path: Path) -> bool:
        assert self._delivery is not None
        started = time.monotonic()
        try:
            entry = read_entry(path)
            self._delivery.stage(entry)
        except FileNotFoundError as error:
            if path.exists():
                return self._failed(path, error)
            return False
        except Exception as error:
            return self._failed(path, error)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:  # delivering it again changes nothing
            self._away(error)
            return False
        self._delivery.curves.forget(entry)
        self._failures = 0
        self.count += 1
        logger.info("delivered %s in %.2f s", entry.key, time.monotonic() - started)
        return True

    def _failed(self, path: Path, error: Exception) -> bool:
        """Keep an entry for later, or set it aside; tell whether it left the outbox."""
        from edgeward.tracking.store import full, refused

        if full(error):  # of the store or of its artifacts: no fault of the entry
            self._away(error)
            return False
        self._attempts[path.name] = self._attempts.get(path.name, 0) + 1
        hopeless = refused(error)
        if not hopeless and not self._answers():
            self._attempts.pop(path.name)
            self._away(error)
            return False
        if hopeless or self._attempts[path.name] >= ATTEMPTS:
            self._set_aside(path, error)
            return True
        self._away(error)
        return False

    def _set_aside(self, path: Path, error: Exception) -> None:
        failed = self.outbox / "failed"
        failed.mkdir(exist_ok=True)
        (failed / f"{path.name}.reason.txt").write_text(f"{_describe(error)}\n")
        path.replace(failed / path.name)
        logger.error(
            "%s cannot be delivered and was moved to %s: %s", path.name, failed, _short(error)
        )

    def _conclude(self) -> int:
        left = len(pending(self.outbox))
        logger.info("%d entries delivered, %d left", self.count, left)
        if left:
            logger.error("%s", remaining(self.outbox, self.uri, left))
        return 1 if left else 0


def remaining(outbox: Path, uri: str, left: int) -> str:
    """Say how many entries are left, and how to deliver them."""
    return (
        f"{left} tracking entries wait in {outbox}: {without_credentials(uri)} did not take them. "
        "Nothing is lost: the next run delivers them, or 'snakemake tracking_sync --cores 1'."
    )


def _birth(pid: int | None) -> str | None:
    """Return what tells a process from a later one of the same number; None if it has ended."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.parent.parent.joinpath("self").exists():
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in ("Z", "X") else fields[19]
    try:
        os.kill(pid or 0, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return "alive"
    return "alive"


def _describe(error: Exception) -> str:
    """Return type and message, without the credentials that a URI in the message may hold."""
    return without_credentials(f"{type(error).__name__}: {error}")


def _short(error: Exception) -> str:
    return (_describe(error).splitlines() or [""])[0][:300]
