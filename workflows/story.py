"""A case's story as Markdown, for the Web UI's current details."""

import re

from rulebook.money import yuan
from rulebook.vocabulary import SHANGHAI, one_line, written
from workflows.messages import Story

_NEWEST = 40


def plain(text: str) -> str:
    """Text from outside, made harmless inside Markdown: one line, no markup, no link."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~-])", r"\\\1", one_line(text))


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
    shown = story.lines[-_NEWEST:]
    lines = [
        f"- `{line.at.astimezone(SHANGHAI):%Y-%m-%d %H:%M}` {plain(line.text)} ({plain(line.by)})"
        for line in shown
    ]
    if len(shown) < len(story.lines):
        lines.insert(0, f"- {len(story.lines) - len(shown)} earlier lines are in the registry")
    return "\n".join([*(f"- {name}: {what}" for name, what in facts), "", "### Story", "", *lines])
