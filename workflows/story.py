"""A case's story for the Web UI: Markdown in its details, plain words in its timeline."""

import re
from urllib.parse import quote

from registry.shown import Story
from rulebook.money import yuan
from rulebook.report import Report
from rulebook.vocabulary import SHANGHAI, one_line, written
from workflows import attributes

_NEWEST = 40
_SUMMARY_CHARACTERS = 120  # the timeline shows no more
_SUMMARY_BYTES = 280  # a server may refuse more than 400, encoded as JSON: the case could not go on
_DETAILS_CHARACTERS = 2000


def plain(text: str) -> str:
    """Text from outside, made harmless inside Markdown: one line, no markup, no link."""
    # The Web UI makes links of bare addresses and formulas of what stands between dollar signs.
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~:$&-])", r"\\\1", one_line(text))


def brief(text: str) -> str:
    """A step's text for the timeline, which shows it as it is: one line, as long as the server takes."""
    line = one_line(text)
    cut = line[:_SUMMARY_CHARACTERS].encode()[:_SUMMARY_BYTES].decode(errors="ignore")
    return line if cut == line else f"{cut[:-1]}…"


def reported(report: Report) -> str:
    """What the first report says, in Markdown, for the static details with which its case starts."""
    said = [
        ("Reported by", f"{plain(report.source)}, id {plain(report.report_id)}"),
        ("Business", str(report.business)),
        ("Facts", plain(report.facts[:_DETAILS_CHARACTERS])),
    ]
    return "\n".join(f"- {name}: {what}" for name, what in said)


def listed(text: str, attribute: str, value: str) -> str:
    """A link, in Markdown, to the Web UI's list of the workflows with this search attribute."""
    # The Web UI puts the namespace in, and shows Markdown at an address beside `namespaces`.
    query = quote(f'{attribute}="{value}"', safe="")
    return f"[{text}](namespaces/{{namespace}}/workflows?query={query})"


def markdown(story: Story) -> str:
    """The story in Markdown: where the case stands first, then what happened, oldest first."""
    facts = [
        ("Case", f"{story.case_no or 'not opened yet'}, number {written(story.number)}, {story.kind.label}"),
        ("Agent", f"{plain(story.agent_name)} ({plain(story.agent_id)})"),
        ("Customer", plain(story.customer)),
        ("Stage", f"**{story.stage}**"),
    ]
    if story.deadline:
        facts.append(("Deadline", str(story.deadline)))
    if story.awaiting:
        facts.append(("Awaiting an officer", f"**{', '.join(story.awaiting)}**"))
    if story.offence:
        money = story.balance
        facts.append(("Fine", f"{yuan(money.fine)} (offence {story.offence}), paid {yuan(money.paid)}"))
    if story.filings:
        filed = (f"{f.filing_no} {plain(f.recipient)} **{f.status}**" for f in story.filings)
        facts.append(("Filings", ", ".join(filed)))
    if story.case_no:
        links = (
            listed("all about this case", attributes.CASE_NO.name, story.case_no),
            listed("all cases of this agent", attributes.AGENT.name, story.agent_id),
            listed("all about this number", attributes.NUMBER.name, story.number),
        )
        facts.append(("See", ", ".join(links)))
    shown = story.lines[-_NEWEST:]
    lines = [
        f"- `{line.at.astimezone(SHANGHAI):%Y-%m-%d %H:%M}` {plain(line.text)} ({plain(line.by)})"
        for line in shown
    ]
    if len(shown) < len(story.lines):
        lines.insert(0, f"- {len(story.lines) - len(shown)} earlier lines are in the registry")
    return "\n".join([*(f"- {name}: {what}" for name, what in facts), "", "### Story", "", *lines])
