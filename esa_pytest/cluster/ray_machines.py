"""Ray as the driver's loop sees it: tasks, what became of them, and the nodes. The only module that imports ray."""

import os
import socket
from collections.abc import Sequence
from typing import Any

from esa_pytest.cluster.book import Try
from esa_pytest.cluster.events import Answered, Event, Failed, Lost
from esa_pytest.cluster.needs import Need, Node
from esa_pytest.cluster.node import run_job
from esa_pytest.errors import ClusterError

CONNECT_SECONDS = 5.0
# How long a cancelled task has to tidy up before its process is killed.
CANCEL_SECONDS = 5.0
MISSING = "--esa-ray needs Ray, which is not installed here: pip install 'esa-pytest[ray]', on every node as well."


def checked_address(address: str) -> str:
    """An address as `--esa-ray` takes it: `auto`, or HOST:PORT of the head.

    Raises:
        ClusterError: it is something else.
    """
    host, _, port = address.rpartition(":")
    if address == "auto" or (host and "/" not in host and port.isdecimal() and 0 < int(port) < 65536):
        return address
    raise ClusterError(
        f"--esa-ray is {address!r}; it takes HOST:PORT of a Ray cluster's head, or auto for the one of this machine."
    )


def ray_or_refuse() -> Any:
    """The module ray, which sends no usage statistics of ours.

    Raises:
        ClusterError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise ClusterError(MISSING) from None
    return ray


class RayMachines:
    """A connection to a Ray cluster; to be closed."""

    def __init__(self, address: str) -> None:
        """Connect.

        Raises:
            ClusterError: ray is missing, the cluster does not answer, or it runs another version.
        """
        self._ray = ray_or_refuse()
        _connect(self._ray, address)
        # A process a task: what a baseline leaves in memory, or in a library's state, meets no other one. Retries are
        # the loop's, which tells of them.
        self._task = self._ray.remote(max_calls=1, max_retries=0, scheduling_strategy="SPREAD")(run_job)
        self._tries: dict[Any, Try] = {}

    def nodes(self) -> Sequence[Node]:
        """The nodes that are alive."""
        return [
            Node(
                name=str(node["NodeManagerAddress"]),
                cpus=float(node["Resources"].get("CPU", 0.0)),
                gpus=float(node["Resources"].get("GPU", 0.0)),
            )
            for node in self._ray.nodes()
            if node["Alive"]
        ]

    def start(self, attempt: Try, payload: bytes, need: Need) -> None:
        """Queue a try."""
        options = {"num_cpus": need.cpus, "num_gpus": need.gpus, "name": f"esa {attempt.test}, try {attempt.number}"}
        self._tries[self._task.options(**options).remote(payload)] = attempt

    def events(self, *, seconds: float) -> Sequence[Event]:
        """What became of the tries that have ended, after at most so many seconds."""
        if not self._tries:
            return []
        done, _ = self._ray.wait(list(self._tries), num_returns=len(self._tries), timeout=min(seconds, 0.01))
        if not done and seconds > 0:
            done, _ = self._ray.wait(list(self._tries), num_returns=1, timeout=seconds)
        return [self._event(reference, self._tries.pop(reference)) for reference in done]

    def cancel(self, attempts: Sequence[Try]) -> None:
        """Interrupt tries; those that do not end by it are killed."""
        gone = [reference for reference, attempt in self._tries.items() if attempt in attempts]
        for reference in gone:
            self._ray.cancel(reference, force=False)
        _, stubborn = self._ray.wait(gone, num_returns=len(gone), timeout=CANCEL_SECONDS) if gone else ((), ())
        for reference in stubborn:
            self._ray.cancel(reference, force=True)
        for reference in gone:
            del self._tries[reference]

    def close(self) -> None:
        """Leave the cluster, which goes on without us."""
        self._ray.shutdown()

    def _event(self, reference: Any, attempt: Try) -> Event:
        errors = self._ray.exceptions
        try:
            return Answered(attempt=attempt, payload=self._ray.get(reference))
        except errors.OutOfMemoryError as error:
            return Failed(
                attempt=attempt,
                cause=f"It ran out of memory on its node, and Ray killed it ({_first_line(error)}); it is not tried "
                f"again, so give it a larger node, or lower batch_tokens of its type.",
            )
        except errors.WorkerCrashedError:
            # Also what is seen where the kernel's own killer was faster than Ray's.
            return Lost(attempt=attempt, cause="its process was killed, for lack of memory perhaps")
        except (errors.NodeDiedError, errors.LocalRayletDiedError) as error:
            return Lost(attempt=attempt, cause=f"its node was lost: {_first_line(error)}")
        except errors.ObjectLostError:
            return Lost(attempt=attempt, cause="its node was lost with the answer")
        except errors.RayError as error:
            return Failed(attempt=attempt, cause=f"Ray could not run it ({type(error).__name__}: {_last_line(error)}).")


def _connect(ray: Any, address: str) -> None:
    if address != "auto":
        _refuse_silent(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except RuntimeError as error:
        if "ersion mismatch" not in str(error):
            raise ClusterError(_unusable(address, error)) from None
        told = " ".join(str(error).split())
        raise ClusterError(
            f"The Ray cluster at {address} is of another version: {told}; install the same one."
        ) from None
    except (ConnectionError, ValueError, OSError) as error:
        raise ClusterError(_unusable(address, error)) from None


def _refuse_silent(address: str) -> None:
    """Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise ClusterError(
            f"No Ray cluster answers at {address} ({error}); check the address, and that `ray start --head` runs there."
        ) from None


def _unusable(address: str, error: Exception) -> str:
    return (
        f"The Ray cluster at {address} cannot be used ({_first_line(error)}); start pytest on one of its nodes, with "
        f"the address that `ray start` prints."
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].split(". ")[0].rstrip(".")


def _last_line(error: Exception) -> str:
    return str(error).strip().split("\n")[-1].rstrip(".")
