"""The recent events of one session, kept in memory in order, and the bell that wakes who follows them.

Knows neither runs nor stores. A follower that asks for something older than `floor` has to look into the store.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from app.sessions.events import Body, Event, EventType, ItemGiven
from app.system.clocks import event_time_us

__all__ = ["EventStream"]


class EventStream:
    """What a session's followers read. Lives as long as the session is in memory or somebody follows it.

    Every event with an id above `floor` is in the buffer. What nobody follows leaves it once it is durable, but for what is never
    stored, and all that comes after that: items and warnings stay as long as there is room. `undurable` holds those that were
    shown before they could be stored: the start of a run and of a step, until the commit that holds them.
    """

    __slots__ = (
        "_asks",
        "_capacity",
        "_deferred",
        "_early",
        "_ephemeral_id",
        "_events",
        "_has_gap",
        "_is_late",
        "_lacks_items",
        "_last_id",
        "_released",
        "_reserved",
        "_waiters",
        "closed",
        "floor",
        "followers",
        "is_holding",
        "is_in_doubt",
        "undurable",
        "vanished",
    )

    def __init__(self, last_event_id: int, capacity: int, is_late: Callable[[], bool] = lambda: False) -> None:
        """`is_late` says whether another replica may have the session by now, and tell of it under lower ids than ours."""
        self._is_late = is_late
        self._has_gap = False  # something durable was not shown: followers have to look into the store
        self._lacks_items = False  # an item of the attempt under way was not shown
        self.floor = last_event_id
        self.followers = 0
        self.closed = False
        self.undurable: list[Event] = []
        self._last_id = last_event_id
        self._capacity = capacity
        self._events: deque[Event] = deque()
        self._ephemeral_id = 0  # of the last event that is in no store
        self._waiters: list[asyncio.Future[bool]] = []
        self.is_holding = False  # whether what is emitted is kept back
        self.is_in_doubt = False  # nobody knows whether what it is kept back for is stored
        self._reserved: int | None = None  # the lowest id that is given out for what is kept back for
        self._released: asyncio.Future[bool] | None = None
        self._asks: Callable[[], Awaitable[int]] | None = None  # the store, what has become of what is kept back for
        self.vanished: set[str] = set()  # runs that were shown, and are neither stored nor under way
        self._deferred: list[tuple[EventType, str | None, Body]] = []
        self._early: list[Event] = []  # shown before they are stored, but not before what is kept back for

    @property
    def is_writing(self) -> bool:
        """Whether something is being stored that will be shown, or refused, soon."""
        return self.is_holding and not self.is_in_doubt

    @property
    def is_late(self) -> bool:
        """Whether another replica may have the session by now."""
        return self._is_late()

    @property
    def last_id(self) -> int:
        """The id that was given out last."""
        return self._last_id

    def next_id(self) -> int:
        """Return a new id: microseconds since 1970, or one more than the last where the clock does not move on."""
        now = event_time_us()
        last = self._last_id
        self._last_id = last = now if now > last else last + 1
        return last

    def reserve_id(self) -> int:
        """Return a new id for what is shown when it is stored: until then nothing is shown that has a higher one."""
        event_id = self.next_id()
        if self.is_holding and self._reserved is None:
            self._reserved = event_id
        return event_id

    def emit(self, type_: EventType, run_id: str | None, body: Body) -> None:
        """Append an event that is not stored, with a new id, or after `release` while ids are reserved for a commit.

        While another replica may have the session it is dropped: who has seen it would pass over what happens there. With an
        item, those that follow it in its attempt are dropped too: a stream of items can end early, but has no hole.
        """
        if self.is_holding:
            self._deferred.append((type_, run_id, body))
            return
        is_left_out = self._is_late()
        if isinstance(body, ItemGiven):
            is_left_out = self._lacks_items = is_left_out or (self._lacks_items and body.number > 0)
        if not is_left_out:
            self._ephemeral_id = self.next_id()
            self.append(Event(self._ephemeral_id, type_, run_id, body))

    def hold(self) -> None:
        """Keep what is emitted from now on back, because events with lower ids wait for their commit."""
        self.is_holding = True
        self.is_in_doubt = False

    def release(self) -> None:
        """Append what was kept back, what was emitted with new ids."""
        self.is_holding = self.is_in_doubt = False
        self._asks = self._reserved = None
        self._look_again()
        early, self._early = self._early, []
        for event in early:
            self._append_early(event)
        if self._deferred:
            deferred, self._deferred = self._deferred, []
            for type_, run_id, body in deferred:
                self.emit(type_, run_id, body)

    def doubt(self, asks: Callable[[], Awaitable[int]] | None = None) -> None:
        """What is kept back for may be stored or not: it is kept back until the session is read again.

        Or until who wants to hold next `asks` up to which id the session is stored.
        """
        self.is_in_doubt = True
        self._asks = asks
        self._look_again()

    async def until_written(self) -> None:
        """Return when nothing is being stored: it is shown, refused, or in doubt."""
        while self.is_writing:
            await self._next_look()

    async def until_released(self) -> None:
        """Return when nothing is kept back. The caller may hold then, if it does not await anything before.

        Raises what the store raises, if it has to be asked.
        """
        while self.is_holding:
            if (asks := self._asks) is not None:
                last_event_id = await asks()
                if self._asks is asks:
                    self.catch_up(last_event_id)
                continue
            await self._next_look()

    def catch_up(self, last_event_id: int) -> None:
        """The session is read again, and stored up to `last_event_id`: what is not here is in the store or nowhere.

        That is what was held back in doubt, and what another replica has done. Nothing is being stored meanwhile.
        """
        if self.is_holding or last_event_id > self._last_id:
            self.floor = max(self.floor, last_event_id)
            self._last_id = max(self._last_id, last_event_id)
            self._wake()
        if self.is_holding:
            self.release()

    def forsake(self, run_id: str) -> None:
        """A run that was shown has come to nothing: whoever follows it has to ask for it again."""
        self.undurable = [event for event in self.undurable if event.run_id != run_id]
        if self.followers:
            self.vanished.add(run_id)
            self._wake()

    def append(self, event: Event) -> None:
        """Add `event`, whose id is above that of every event before it, and wake the followers."""
        events = self._events
        if self._has_gap:
            self._has_gap = False
            self.floor = max(self.floor, event.id - 1)
        events.append(event)
        if len(events) > self._capacity:
            self.floor = events.popleft().id
        if self._waiters:
            self._wake()

    def show_early(self, event: Event) -> None:
        """Append `event` before it is durable, and remember it until it is; not before an event with a lower id is shown.

        While another replica may have the session it is not appended: followers find it in the store when it is there.
        """
        self.undurable.append(event)
        if self._reserved is not None and event.id > self._reserved:
            self._early.append(event)
        else:
            self._append_early(event)

    def mark_durable(self, run_id: str | None, through: int) -> None:
        """All that this run has shown up to the id `through` is stored; its next step may be under way, and another run."""
        self.undurable = [event for event in self.undurable if event.run_id != run_id or event.id > through]

    def let_go(self) -> None:
        """All that was appended is durable: keep it only if somebody follows, or if the store does not have all of it."""
        events = self._events
        if events and not self.followers and not self.undurable and self._ephemeral_id <= self.floor:
            self.floor = events[-1].id
            events.clear()

    def after(self, event_id: int) -> list[Event]:
        """Return the buffered events above `event_id`, in order."""
        events = self._events
        if not events or events[-1].id <= event_id:
            return []
        newer: list[Event] = []
        for event in reversed(events):
            if event.id <= event_id:
                break
            newer.append(event)
        newer.reverse()
        return newer

    def close(self) -> None:
        """Nothing will come any more: followers read what is there and go."""
        self.closed = True
        if not self.is_writing:  # else whoever stores it comes to an end with it
            self.release()
        self._wake()

    async def changed(self, timeout_s: float) -> bool:
        """Return True when something was appended or the stream closed, False when `timeout_s` have passed before that.

        Must be called in the same breath as the look into the buffer: an `await` in between would lose a wake-up.
        """
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._waiters.append(waiter)
        timer = loop.call_later(timeout_s, _settle, waiter, False)
        try:
            return await waiter
        finally:
            timer.cancel()
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _append_early(self, event: Event) -> None:
        if self._is_late():
            self._has_gap = True
        else:
            self.append(event)

    async def _next_look(self) -> None:
        if self._released is None:
            self._released = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._released])

    def _look_again(self) -> None:
        if self._released is not None:
            _settle(self._released, True)
            self._released = None

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            _settle(waiter, True)


def _settle(waiter: asyncio.Future[bool], value: bool) -> None:
    if not waiter.done():
        waiter.set_result(value)
