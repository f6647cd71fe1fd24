"""Whatever agents, customers and systems write stays text, wherever an officer reads it."""

import unicodedata

from tests.starter.conftest import Enforce
from tests.world import World, a_report, an_agent

HOSTILE = (
    "\x1b[2J\x1b]0;x\x07\x9b31m[bold red]甲[/bold red]\u202e反\u2066向\u200b\ufeff"
    '=HYPERLINK("http://x.example")\r\n400-000-0000  settled\t\x00'.replace("\x00", "")
    + "𠮷龘👩‍👩‍👧"
    + "长" * 300
)

READ = {
    "case": ("case", "CASE"),
    "case as JSON": ("case", "CASE", "--json"),
    "cases": ("cases", "--all"),
    "agent": ("agent", "AGENT"),
    "explain": ("explain", "CASE"),
    "notice": ("notices", "show", "NOTICE"),
    "notice as text": ("notices", "show", "NOTICE", "--text"),
    "verify": ("notices", "verify", "CASE"),
    "todo": ("todo",),
}


async def test_no_text_from_outside_acts_in_the_terminal(world: World, enforce: Enforce) -> None:
    [number] = an_agent(world.on_record, name=HOSTILE, contact=HOSTILE)
    case = await world.open(a_report(number, facts=HOSTILE, report_id=HOSTILE[:120]), on="2038-03-01")
    await case.rectified(statement=HOSTILE)
    await case.verify(passed=False, reason=HOSTILE[:150])
    await case.appeal(statement=HOSTILE)
    case_no, agent_id = await case.case_no(), (await case.attributes())["Agent"].split()[0]
    named = {"CASE": case_no, "AGENT": agent_id, "NOTICE": f"{case_no}-N1"}
    for command, words in READ.items():
        ran = await enforce(*(named.get(word, word) for word in words))
        assert ran.code == 0, ran.err
        acting = {c for c in ran.out if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp")}
        assert (command, acting <= {"\n", "\r"}) == (command, True)
        if command in ("case", "explain", "notice"):
            assert "[bold red]甲[/bold red]" in ran.out
