"""A run: rounds of load and faults, after each a rest in which everything must come right, and then the verdict."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Final

from pipeline.embedders.choosing import LOCAL, OLLAMA
from pipeline.embedders.local import MODEL as LOCAL_MODEL
from pipeline.errors import PenstockError
from pipeline.jobs import Office
from pipeline.store.messages import MessageOutbox
from tests.chaos import diagnosis, invariants, plan
from tests.chaos.injector import Injector
from tests.chaos.recovery import PROMISED_SECONDS, Watch
from tests.chaos.trees import Tree
from tests.chaos.users import User, settle
from tests.chaos.waiting import heed, soon
from tests.chaos.world import MODEL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.chaos.kinds import Kind
    from tests.chaos.report import Report
    from tests.chaos.world import World

ROUND_SECONDS: Final = 25.0
LEAST_SECONDS: Final = 3.0
"""A shorter round would break nothing."""
SETTLE_SECONDS: Final = 300.0
SETTLE_TICK: Final = 0.3
JOIN_SECONDS: Final = 90.0
END_SECONDS: Final = 40.0
STARTED_SECONDS: Final = 60.0
SLOWEST: Final = 5
ENOUGH: Final = 50
"""Violations after which a run ends."""
JOBS: Final = "SELECT status, count(*), sum(chunks_created)::bigint FROM penstock.indexing_jobs GROUP BY 1"


@dataclass
class Run:
    """Everything that a run needs; it ends when its time is up, and at once when jobs are stuck."""

    world: World
    report: Report
    kinds: Sequence[Kind]
    left_out: Mapping[str, str]
    users: list[User]
    audited: int = 0
    turns: int = 0
    stalls: list[str] = field(default_factory=list)
    stuck: bool = False

    def __post_init__(self) -> None:
        self.watch = Watch(self.world, self.stalls.append)
        self.injector = Injector(self.world, self.watch, self.report, frozenset(self.left_out))

    def go(self, seconds: float) -> None:
        """Make rounds for so long."""
        self.report.say(
            "begun",
            folder=self.world.folder,
            left_out=dict(self.left_out),
            bounds_memory=self.world.bounds_memory,
            elsewhere=self.world.elsewhere.kind,
        )
        for user in self.users:
            user.tree.make()
        soon(lambda: all(crew.awake() for crew in self.world.crews), STARTED_SECONDS)
        until = time.monotonic() + seconds
        with self.watch.watching():
            while until - time.monotonic() > LEAST_SECONDS and not self._is_over:
                self._round(min(ROUND_SECONDS, until - time.monotonic()))
        self._end_workers()

    @property
    def _is_over(self) -> bool:
        """Whether nothing can be learnt any more: jobs are stuck, or there is enough to look at."""
        return self.stuck or len(self.report.violations) >= ENOUGH

    def _round(self, seconds: float) -> None:
        self.turns += 1
        self.report.turn = self.turns
        self.report.say("round", seconds=round(seconds, 1))
        with self._users_at_work():
            self.injector.run(plan.faults(self.report.seed, self.turns, self.kinds), seconds)
        began = time.monotonic()
        self._settle()
        if self.world.embedded.suspended and not self.stuck:
            self._embed_anew()
        settled = time.monotonic()
        self._judge()
        self.report.say("judged", settling=round(settled - began, 1), judging=round(time.monotonic() - settled, 1))

    @contextmanager
    def _users_at_work(self) -> Iterator[None]:
        threads = [
            threading.Thread(target=user.work, args=(plan.dice(self.report.seed, self.turns, user.name),), daemon=True)
            for user in self.users
        ]
        for user, thread in zip(self.users, threads, strict=True):
            user.resting.clear()
            thread.start()
        try:
            yield
        finally:
            for user in self.users:
                user.resting.set()
            soon(lambda: not any(thread.is_alive() for thread in threads), JOIN_SECONDS)
            for user, thread in zip(self.users, threads, strict=True):
                if thread.is_alive():
                    self.report.violate(f"the user of {user.root} got no answer within {JOIN_SECONDS:g} s")

    def _settle(self) -> None:
        """Have every repository completed; nothing is broken any more, so whatever does not end is stuck."""
        waiting = list(self.users)
        deadline = time.monotonic() + SETTLE_SECONDS
        while waiting and not self.stalls and time.monotonic() < deadline:
            waiting = [user for user in waiting if not _settled(user)]
            heed()
            time.sleep(SETTLE_TICK)
        self.stuck = bool(self.stalls or waiting)
        if self.stuck:
            self.report.say("state", **diagnosis.state(self.world))
        self.report.violate_all(self.stalls)
        if waiting and not self.stalls:
            roots = ", ".join(user.root for user in waiting)
            self.report.violate(f"{roots} did not come to an end within {SETTLE_SECONDS:g} s")

    def _embed_anew(self) -> None:
        """Have all in one space again after a model was replaced under its name; before that no index is a mixture."""
        with self.world.server.session() as session:
            self.report.violate_all(invariants.strange_vectors(session))
        for user in self.users:
            user.changed |= any(office.embedder == OLLAMA for office in user.offices)
        self._settle()
        self.world.embedded.count_again()

    def _judge(self) -> None:
        for user in self.users:
            if user.error is not None:
                raise user.error
            self.report.violate_all(user.promises)
            user.promises.clear()
        self.report.violate_all(self.watch.violations)
        self.watch.violations.clear()
        if not self.stuck:
            self.audited, found = invariants.broken(self.world, self.users, since=self.audited)
            self.report.violate_all(found)

    def _end_workers(self) -> None:
        """See that nothing is left over, and ask every group to end, which must leave no process, entry or message."""
        if not self.stuck:
            self.report.violate_all(invariants.left(self.world.engine))
        for crew in self.world.crews:
            crew.ask_to_end()
        self.report.violate_all(
            f"group {crew.name} did not end" for crew in self.world.crews if not crew.has_ended(END_SECONDS)
        )
        if not self.stuck:
            self.report.violate_all(invariants.after_the_end(self.world))

    def summary(self) -> dict[str, object]:
        """Return what the run came to."""
        with self.world.server.session() as session:
            rows = session.execute(JOBS).fetchall()
        embedded = self.world.embedded
        habits = sum((Counter(user.counts) for user in self.users), Counter[str]())
        return {
            "seed": self.report.seed,
            "rounds": self.turns,
            "faults": dict(self.report.faults.most_common()),
            "faults_total": self.report.faults.total(),
            "missed": dict(self.report.missed),
            "left_out": dict(self.left_out),
            "jobs": {status: count for status, count, _ in rows},
            "chunks_of_jobs": sum(chunks for *_, chunks in rows),
            "users": dict(habits),
            "embedded": {
                "passages": embedded.total,
                "repeated": embedded.repeated,
                "unexplained": embedded.unexplained,
                "exempt": embedded.exempt,
                "ratio": round(embedded.repeated / max(1, embedded.total), 4),
            },
            "recovery": self._recovery(),
            "starts": {"server": self.world.server.starts, **{crew.name: crew.starts for crew in self.world.crews}},
            "violations": [violation["violation"] for violation in self.report.violations],
        }

    def _recovery(self) -> dict[str, object]:
        found = sorted(self.watch.recoveries, key=lambda each: -each.seconds)
        worst: dict[str, float] = {}
        for each in reversed(found):
            worst[each.fault] = round(each.seconds, 2)
        return {
            "measured": len(found),
            "median": round(median(each.seconds for each in found), 2) if found else None,
            "late": sum(each.seconds > PROMISED_SECONDS for each in found),
            "slowest": [
                {"fault": each.fault, "seconds": round(each.seconds, 2), "status": each.status, "due": each.due}
                for each in found[:SLOWEST]
            ],
            "slowest_by_fault": worst,
        }


def _settled(user: User) -> bool:
    try:
        return settle(user)
    except PenstockError:  # the server may be recovering, or the job ended this moment: it is asked again
        return False


def users(world: World) -> list[User]:
    """Return the users: repositories of several sizes, both embedders."""
    outbox = MessageOutbox()
    local = Office(world.engine, outbox, LOCAL, LOCAL_MODEL)
    ollama = Office(world.engine, outbox, OLLAMA, MODEL)
    trees = world.folder / "trees"
    return [
        User(Tree(trees / "tiny", 6, 1), (local, ollama), world.embedded, removes=True),
        User(Tree(trees / "small", 40, 2), (ollama,), world.embedded, removes=True),
        User(Tree(trees / "odd", 120, 3, odd=True), (local,), world.embedded),
        User(Tree(trees / "large", 400, 4), (ollama,), world.embedded),
        User(Tree(world.visited, 30, 5), (local,), world.embedded, idle=True, changed=False),
    ]
