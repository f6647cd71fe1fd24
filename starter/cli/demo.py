"""The demo: the sample registry and feed, the officers' part played through the desk, weeks in seconds.

The policy and the Chinese calendar are the real ones; only the clock of each case is moved on, on a real
Temporal server.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.live import Live
from rich.table import Table

from registry import importer, inbox
from rulebook.money import ZERO, yuan
from rulebook.vocabulary import IncomingStatus, written
from starter import connect, feeds, local, monitor, serve
from starter.cli import show
from starter.cli.fates import OFFICER, STORIES, Fate, Played, Violation
from starter.settings import Settings
from starter.virtual_time import VirtualTime

SAMPLES = Path(__file__).parent.parent.parent / "samples"
HOME = Path(".enforce-demo")
ENFORCE = Path(sys.argv[0])


def run(*, stay: bool) -> None:
    """Play the demo; with `stay`, keep the servers up until Ctrl-C. Raises `Refused` if one runs already."""
    started = time.monotonic()
    settings = Settings(home=HOME, channel="outbox")
    out = show.console()
    out.print(f"starting PostgreSQL and Temporal in {HOME.resolve()}")
    with local.servers(settings, time_skipping=True, afresh=True) as temporal:
        out.print(f"Temporal Web UI: {temporal.web}")
        asyncio.run(_play(settings, temporal.web, started, stay=stay))


async def _play(settings: Settings, web: str, started: float, *, stay: bool) -> None:
    out = show.console()
    async with serve.cases(settings) as client:
        on_record = connect.on_record(settings)
        rows = importer.read(importer.decode((SAMPLES / "registry.csv").read_bytes()))
        with on_record.begin() as session:
            loaded = importer.load(session, rows, datetime.now(UTC), OFFICER)
        out.print(f"registry: {loaded.agents_added} agents, {loaded.numbers_added} numbers")
        came = feeds.read_all(on_record, SAMPLES / "reports.jsonl")
        ended = await monitor.settle(client, on_record, settings.task_queue, came.ids)
        out.print(f"reports.jsonl: {show.ended(ended)}")
        with on_record() as session:
            show.incoming(inbox.of(session, came.ids, IncomingStatus.REFUSED))

        played = Played(client, VirtualTime(client), on_record, settings.task_queue)
        stories = [
            [(Violation(played, kind, number), fate) for kind, number, fate in story] for story in STORIES
        ]
        playing = [case for story in stories for case, _ in story]
        fates = {case.number: (fate.__doc__ or "").strip() for story in stories for case, fate in story}
        await asyncio.gather(*(case.look() for case in playing))
        with Live(console=out, auto_refresh=False, transient=True) as live:

            def draw() -> None:
                if out.is_terminal:
                    live.update(_table(playing, fates), refresh=True)

            async def tell(story: Sequence[tuple[Violation, Fate]]) -> None:
                for case, fate in story:
                    await fate(case)
                    draw()

            drawing = asyncio.create_task(_often(draw))
            await asyncio.gather(*(tell(story) for story in stories))
            drawing.cancel()
        await asyncio.gather(*(case.look() for case in playing))
        out.print(_table(playing, fates))
        fines = sum((case.told.balance.fine for case in playing if case.told), ZERO)
        money = sum((case.told.balance.paid for case in playing if case.told), ZERO)
        out.print(
            f"{len(playing)} cases, {yuan(fines)} of fines standing, {yuan(money)} paid; "
            f"{time.monotonic() - started:.0f} seconds"
        )
        out.print(f"\nWeb UI    {web}\nnotices   {settings.outbox_folder.resolve()}", soft_wrap=True)
        if stay:
            by_hand = f"ENFORCE_HOME={HOME} {ENFORCE} case {playing[0].number}"
            out.print(f"by hand   {by_hand}\nCtrl-C ends the demo", soft_wrap=True)
            await serve.stopped()


async def _often(draw: Callable[[], None]) -> None:
    while True:
        draw()
        await asyncio.sleep(0.2)


def _table(playing: Sequence[Violation], fates: Mapping[str, str]) -> Table:
    sums = ("fine", "paid", "due", "owed_back")
    drawn = show.table(
        *("number", "kind", "agent", "what happens", "until", "stage"), *(s.replace("_", " ") for s in sums)
    )
    for case in playing:
        if case.told is None:
            continue
        drawn.add_row(
            written(case.number),
            case.kind,
            show.outside(case.told.agent_name),
            fates[case.number],
            show.when(max(line.at for line in case.told.lines)) if case.told.lines else "",
            show.stage(case.told.stage),
            *(show.amount(getattr(case.told.balance, s)) for s in sums),
        )
    return drawn
