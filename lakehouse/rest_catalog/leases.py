"""The epochs that clients use: read once, and not expired meanwhile."""

import re
import threading
from collections import OrderedDict
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from lakehouse.table.epoch import Epoch
from lakehouse.table.published import epoch_as_of, newest_epoch, pin_epoch, read_epochs
from ridelake.errors import NotReady, RidelakeError, UsageError
from ridelake.settings import LakeAddress

NEWEST = "newest"
PREFIX = re.compile("epoch-([1-9][0-9]{0,8})")

LEASE_SECONDS = 900.0  # since the last request for the epoch
LEASES_MAX = 64
REMOTE_SECONDS = 60.0  # a remote lake has no locks: read its catalog again after this time


class RestCatalogError(Exception):
    """An answer that is not 200. `kind`: the name of the exception in the specification."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status, self.kind = status, kind


@dataclass(slots=True)
class Lease:
    """An epoch that a client has asked for. `held`: its lock. `state`: changes if the lock must be taken
    again (see `EpochLeases._state`)."""

    epoch: Epoch
    held: ExitStack
    state: int | None
    used_at: float


class EpochLeases:
    """The epochs that clients use. An epoch is read from the catalog once, and `ridelake maintain` does not
    expire it until LEASE_SECONDS after the last request. At most LEASES_MAX epochs are kept; the one that was
    used least recently loses its lock. Safe for threads."""

    def __init__(self, address: LakeAddress) -> None:
        self.address = address
        self._leases: OrderedDict[int, Lease] = OrderedDict()
        self._lock = threading.Lock()

    def named(self, warehouse: str | None) -> Epoch:
        """The epoch of a warehouse: newest (also None), epoch-42, or what `--as-of` takes. Raises
        RestCatalogError."""
        try:
            if not warehouse or warehouse == NEWEST:
                return self._newest()
            if found := PREFIX.fullmatch(warehouse):
                return self.numbered(int(found[1]))
            return self.numbered(epoch_as_of(self.address, warehouse).number)
        except UsageError as error:  # no epoch yet, or an invalid time
            message = str(error).replace("--as-of must be", "the warehouse must be newest, epoch-42,")
            raise RestCatalogError(404, "NoSuchWarehouseException", message) from error

    def _newest(self) -> Epoch:
        number = newest_epoch(self.address).number
        try:
            return self.numbered(number)
        except RestCatalogError:
            if newest_epoch(self.address).number == number:
                raise
            return self._newest()  # it was expired between the two reads, so there is a newer one

    def prefixed(self, prefix: str) -> Epoch:
        """The epoch of a prefix. Raises RestCatalogError."""
        if found := PREFIX.fullmatch(prefix):
            return self.numbered(int(found[1]))
        message = f"there is no prefix {prefix}: use the one that GET /v1/config?warehouse=newest returns"
        if prefix == NEWEST:
            message = (
                "newest is a warehouse and not a prefix, because two requests could be of two epochs: use "
                "the prefix that GET /v1/config?warehouse=newest returns"
            )
        raise RestCatalogError(404, "NoSuchNamespaceException", message)

    def numbered(self, number: int) -> Epoch:
        """The epoch, which is not expired for LEASE_SECONDS. Raises RestCatalogError if there is no such
        epoch."""
        state = self._state(number)
        with self._lock:
            lease = self._leases.get(number)
            if lease is not None and lease.state == state:
                lease.used_at = monotonic()
                self._leases.move_to_end(number)
                return lease.epoch
        return self._leased(number, monotonic())

    def renew(self) -> None:
        """Release the epochs that are no longer used, and lock a manifest again if it was replaced. To be
        called every second or so."""
        with self._lock:
            unused = [n for n, one in self._leases.items() if monotonic() - one.used_at > LEASE_SECONDS]
            released = [self._leases.pop(number) for number in unused]
            leases = list(self._leases.items())
        for lease in released:
            lease.held.close()
        for number, lease in leases:
            with suppress(RestCatalogError, RidelakeError, OSError):  # a request reports it
                if not self.address.remote and lease.state != self._state(number):
                    self._leased(number, lease.used_at)

    def close(self) -> None:
        """Release all epochs."""
        for number in tuple(self._leases):
            self._replace(number, None)

    def _leased(self, number: int, used_at: float) -> Epoch:
        state = self._state(number)
        held = ExitStack()
        found = read_epochs(self.address, number)
        try:
            if not found:
                raise NotReady
            # `maintain` can take minutes, and requests that wait for it would occupy all threads.
            held.enter_context(pin_epoch(self.address, found[0], wait=False))
        except BlockingIOError as error:
            self._replace(number, None)
            reason = f"epoch {number} is being expired: connect again with the warehouse newest"
            raise RestCatalogError(503, "ServiceUnavailableException", reason) from error
        except NotReady as error:
            self._replace(number, None)
            newest = newest_epoch(self.address).number
            reason = f"there is no epoch {number}" if number > newest else f"epoch {number} has been expired"
            raise RestCatalogError(
                404, "NoSuchNamespaceException",
                f"{reason}, the newest is {newest}: connect again with the warehouse newest, or see "
                "`ridelake epochs`",
            ) from error  # fmt: skip
        self._replace(number, Lease(found[0], held, state, used_at))
        return found[0]

    def _replace(self, number: int, lease: Lease | None) -> None:
        with self._lock:
            released = [self._leases.pop(number, None)]
            if lease is not None:
                self._leases[number] = lease
            while len(self._leases) > LEASES_MAX:
                released.append(self._leases.popitem(last=False)[1])
        for old in released:
            if old is not None:
                old.held.close()

    def _state(self, number: int) -> int | None:
        """The inode of the epoch's manifest; None if it does not exist. `sync --verify` replaces the file,
        and a lock on the old one protects nothing. For a remote lake, a number that changes from time to
        time."""
        if self.address.remote:
            return int(monotonic() / REMOTE_SECONDS)
        try:
            return Path(self.address.manifest(number)).stat().st_ino
        except FileNotFoundError:
            return None
