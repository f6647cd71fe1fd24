"""The figures as tables, as one HTML page with plots, and as CSV files for a spreadsheet."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pygal  # type: ignore[import-untyped]
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from pygal.style import Style  # type: ignore[import-untyped]

from activities.letters import TEMPLATES
from registry.figures import Figures, Span, State, Undone
from rulebook.money import ZERO, yuan
from rulebook.vocabulary import SHANGHAI, Kind, Stage, one_line
from starter.files import spreadsheet, write
from starter.settings import Refused


class Share(float):
    """A share, from 0 to 1."""


Cell: TypeAlias = str | int | float | Decimal | timedelta | date | None
"""What a table holds: text, counts, working days, shares, yuan, times, days."""


class Table(NamedTuple):
    """A table, by the name of its CSV file; `bar` is the column whose values a bar shows."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    bar: int = -1
    note: str = ""


def tables(of: Figures) -> tuple[Table, ...]:
    """The figures as tables; what comes from outside in them is made harmless."""
    times = (
        (_SPANS[took.span], took.kind.label if took.kind else "all", took.cases, took.median, took.p90)
        for took in of.times
    )
    offences = ((one.kind.label, one.offences, one.agents) for one in of.offences)
    offenders = (
        (one_line(one.agent_id), one_line(one.name), one.kind.label, one.offences)
        for one in of.repeat_offenders
    )
    return (
        _cases(of),
        _days(of),
        _officers(of),
        Table(
            "times-in-hours",
            "各阶段用时 · time to each stage",
            ("from → to", "kind", "cases", "median", _WITHIN),
            tuple(times),
            bar=3,
        ),
        _money(of),
        _undone("kind", "撤销率（按违规类型） · cases that did not stand, by kind", of.undone_by_kind),
        _undone("source", "撤销率（按举报来源） · the same, by source of the report", of.undone_by_source),
        Table(
            "offences",
            "有效违规次数 · agents by number of offences that count (5.5)",
            ("kind", "offences", "agents"),
            tuple(offences),
        ),
        Table(
            "repeat-offenders",
            "屡次违规的代理商 · repeat offenders",
            ("agent", "name", "kind", "offences"),
            tuple(offenders),
        ),
    )


_WITHIN = "9 in 10 within"
_SPANS = {
    Span.NOTICE: "report → notice",
    Span.RECTIFICATION: "notice → rectification",
    Span.RECTIFIED: "notice → verified",
    Span.FINE: "deadline → fine",
    Span.PAID: "fine → paid",
    Span.CLOSED: "opened → closed",
}


def _cases(of: Figures) -> Table:
    counted = [
        *(("open", state, {o.kind: o.cases for o in of.open if o.state is state}) for state in State),
        *(("ended", stage, {e.kind: e.cases for e in of.ended if e.outcome is stage}) for stage in Stage),
    ]
    rows: list[tuple[Cell, ...]] = [
        (word, stands, *(cases.get(kind, 0) for kind in Kind), sum(cases.values()))
        for word, stands, cases in counted
        if cases
    ]
    return Table(
        "cases",
        "案件 · cases by kind, stage and outcome",
        ("", "stage", *(kind.label for kind in Kind), "total"),
        tuple(rows),
        note=f"{sum(o.cases for o in of.open):,} open, {sum(e.cases for e in of.ended):,} ended",
    )


def _days(of: Figures) -> Table:
    return Table(
        "days",
        "未来两周到期 · limits that end in the coming two weeks",
        ("day", "", "worked", "rectification", "service", "payment", "total"),
        tuple(
            (
                *(day.day, f"{day.day:%a}", "yes" if day.works else "no"),
                *(day.rectification, day.service, day.payment),
                day.rectification + day.service + day.payment,
            )
            for day in of.days
        ),
        note="of all open cases; a limit ends at 24:00 of its day (Asia/Shanghai)",
    )


def _officers(of: Figures) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for one in of.officers:
        done = one.waited
        waited = (done.count, done.median, float(done.p90), done.raised) if done else (0, None, None, 0)
        rows.append((one.what, one.waiting, float(one.longest) if one.waiting else None, *waited))
    return Table(
        "officers",
        "待办时长 · what waits for officers, and how long it has waited (5.7)",
        ("what", "waiting", "longest", "done", "median", _WITHIN, "brought up"),
        tuple(rows),
        bar=1,
        note="in full working days; done: " + (f"since {of.since}" if of.since else "so far"),
    )


def _money(of: Figures) -> Table:
    by_kind = {money.kind: money for money in of.money}
    rows: list[tuple[Cell, ...]] = []
    for name in ("fines", "fined", "paid", "owed", "owed_back", "voided", "refunded"):
        cells = [getattr(by_kind[kind], name) if kind in by_kind else 0 for kind in Kind]
        rows.append((name.replace("_", " "), *cells, sum(cells)))
    return Table(
        "money-in-yuan",
        "罚款 · fines and payments, in yuan",
        ("", *(kind.label for kind in Kind), "total"),
        tuple(rows),
        note="fined = paid + owed − owed back; voided and refunded are apart",
    )


def _undone(by: str, title: str, counted: Sequence[Undone]) -> Table:
    rows = ((_of(one), one.ended, one.undone, Share(one.share)) for one in counted)
    return Table(f"undone-by-{by}", title, (by, "ended", "dismissed or overturned", "share"), tuple(rows))


def _of(one: Undone) -> str:
    """The kind, or the source of reports, which is text from outside."""
    return next((kind.label for kind in Kind if kind == one.of), one_line(one.of) or "-")


def shown(cell: Cell) -> str:  # noqa: PLR0911
    """A cell for people; none of something is shown as nothing."""
    match cell:
        case str():
            return cell
        case timedelta():
            return _duration(cell)
        case Share():
            return f"{cell:.1%}"
        case float():
            return f"{cell:g}"
        case Decimal():
            return f"{cell:,.2f}" if cell else ""
        case int():
            return f"{cell:,}" if cell else ""
        case date():
            return str(cell)
    return ""


def _duration(took: timedelta) -> str:
    minutes = int(took.total_seconds()) // 60
    days, hours = divmod(minutes // 60, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min" if minutes else "< 1 min"


def is_amount(cell: Cell) -> bool:
    """Whether a cell stands at the right of its column."""
    return not isinstance(cell, str | date)


def size(cell: Cell) -> float:
    """How long the bar of a cell is, beside those of its column."""
    match cell:
        case timedelta():
            return cell.total_seconds()
        case int() | float() | Decimal():
            return float(cell)
    return 0.0


# Files


def write_csv(folder: Path, of: Figures) -> list[Path]:
    """Write one CSV file for each table into a folder, which is made if it isn't there.

    UTF-8 with a BOM; times in hours, shares from 0 to 1. Raises `Refused`; none is ever half written.
    """
    files = {
        folder / f"{table.name}.csv": spreadsheet(
            table.columns, ([_plain(cell) for cell in row] for row in table.rows)
        )
        for table in tables(of)
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"{folder} can't be made: {error.strerror}") from error
    write(files)
    return list(files)


def _plain(cell: Cell) -> str:
    """A cell as a spreadsheet reads it."""
    match cell:
        case timedelta():
            return f"{cell.total_seconds() / 3600:.2f}"
        case Share():
            return f"{cell:.4f}"
        case float():
            return f"{cell:g}"
        case None:
            return ""
    return str(cell)


def write_page(file: Path, of: Figures) -> None:
    """Write the page. Raises `Refused`."""
    write({file: page(of).encode()})


# The page


def page(of: Figures) -> str:
    """The figures as one HTML page with plots; it needs no network, no script and no font of its own."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["shown"] = shown
    environment.tests["amount"] = is_amount
    return environment.get_template("figures.html.j2").render(
        as_of=of.as_of.astimezone(SHANGHAI),
        since=of.since,
        facts=list(_facts(of)),
        tables=tables(of),
        plots=dict(_plots(of)),
    )


def _facts(of: Figures) -> Iterator[tuple[str, str]]:
    """What the page says in large letters."""
    ended, undone = sum(e.cases for e in of.ended), sum(e.cases for e in of.ended if e.outcome.undone)
    yield "在办 · open", f"{sum(o.cases for o in of.open):,}"
    yield "逾期未处理 · overdue", f"{sum(o.cases for o in of.open if o.state is State.OVERDUE):,}"
    yield "已结 · ended", f"{ended:,}"
    yield "撤销 · did not stand", shown(Share(undone / ended)) if ended else "-"
    yield "欠缴 · owed", yuan(sum((money.owed for money in of.money), ZERO))
    yield "应退 · owed back", yuan(sum((money.owed_back for money in of.money), ZERO))


_RED, _AMBER, _BLUE, _GREEN, _GREY = "#b3261e", "#d98a00", "#2f6f9f", "#3f8f5f", "#9a9a9a"
_OF_KINDS = (_RED, _AMBER, _BLUE)
_FONT = "'PingFang SC','Microsoft YaHei','Noto Sans SC','Noto Sans CJK SC',sans-serif"
_MOST = 12
"""How many bars a plot has at most where there may be any number; the table beside it has them all."""


def _plots(of: Figures) -> Iterator[tuple[str, Markup]]:
    """Plots by the names of the tables that they stand beside."""
    by_name = {table.name: table for table in tables(of)}
    kinds = [kind.label for kind in Kind]
    if rows := by_name["cases"].rows:
        series = {kind: [row[2 + nth] for row in rows] for nth, kind in enumerate(kinds)}
        yield "cases", _bars("cases", [str(row[1]) for row in rows], series, _OF_KINDS)

    days = [f"{day.day:%m-%d} {day.day:%a}{'' if day.works else ' 休'}" for day in of.days]
    due = {name: [getattr(day, name) for day in of.days] for name in ("rectification", "service", "payment")}
    yield "days", _bars("days", days, due, (_AMBER, _BLUE, _GREEN))

    if times := [took for took in of.times if took.kind is None]:
        in_days = {
            "median": [took.median / timedelta(days=1) for took in times],
            _WITHIN: [took.p90 / timedelta(days=1) for took in times],
        }
        spans = [_SPANS[took.span] for took in times]
        yield (
            "times-in-hours",
            _bars("times", spans, in_days, (_BLUE, _GREY), stacked=False, says=lambda days: f"{days:.1f} d"),
        )

    if any(money.fined or money.paid for money in of.money):
        named = [money.kind.label for money in of.money]
        amounts = {name: [getattr(money, name) for money in of.money] for name in ("paid", "owed")}
        yield (
            "money-in-yuan",
            _bars("money", named, amounts, (_GREEN, _RED), says=lambda amount: f"¥{amount:,.0f}"),
        )

    for by, counted in (("kind", of.undone_by_kind), ("source", of.undone_by_source)):
        if most := counted[:_MOST]:
            shares = {"dismissed or overturned": [one.share for one in most]}
            yield (
                f"undone-by-{by}",
                _bars(by, list(map(_of, most)), shares, (_BLUE,), says=lambda s: f"{s:.0%}"),
            )

    if of.offences:
        agents = {(one.kind, one.offences): one.agents for one in of.offences}
        times_ = sorted({one.offences for one in of.offences})
        by_kind = {kind.label: [agents.get((kind, nth), 0) for nth in times_] for kind in Kind}
        yield "offences", _bars("offences", [f"{nth}×" for nth in times_], by_kind, _OF_KINDS)


def _bars(
    name: str,
    labels: Sequence[str],
    series: Mapping[str, Sequence[Any]],
    colours: tuple[str, ...],
    *,
    stacked: bool = True,
    says: Callable[[float], str] = "{:,.0f}".format,
) -> Markup:
    """Horizontal bars as an SVG that refers to nothing: pygal's own script and addresses are taken out."""
    style = Style(
        font_family=_FONT,
        colors=colours,
        background="transparent",
        plot_background="transparent",
        label_font_size=13,
        major_label_font_size=13,
        legend_font_size=13,
        value_font_size=12,
        guide_stroke_color="#d0d5dd",
        major_guide_stroke_color="#d0d5dd",
        opacity=".9",
    )
    kind_of_bars = pygal.HorizontalStackedBar if stacked else pygal.HorizontalBar
    beside = 1 if max(map(len, series)) > 20 else len(series)
    legend = 0 if len(series) == 1 else 10 + 22 * len(series) // beside
    plot = kind_of_bars(
        style=style,
        js=(),
        disable_xml_declaration=True,
        width=580,
        height=50 + legend + len(labels) * (28 if stacked else 40),
        legend_at_bottom=True,
        show_legend=bool(legend),
        legend_at_bottom_columns=beside,
        truncate_legend=-1,
        truncate_label=-1,
        margin=10,
        min_scale=2,
        max_scale=6,
        order_min=0,
        print_values=True,
        value_formatter=says,
    )
    plot.uuid = name  # a random one by itself: the same figures make the same page
    plot.add_xml_filter(_still)
    plot.x_labels = list(reversed(labels))
    bars = zip(*series.values(), strict=True)
    most = float(max(sum(parts) if stacked else max(parts) for parts in bars))

    def said(value: Any) -> str:
        """What stands on a bar; one that is too short for it stands bare: the table has the value too."""
        text = says(value)
        return text if value > most * len(text) / 50 else ""

    for title, values in series.items():
        plot.add(title, [{"value": float(value), "formatter": said} for value in reversed(values)])
    return Markup(plot.render())


def _still(svg: Any) -> Any:
    """Take out of a plot what acts, what names an address, and titles that would show on hovering."""
    for parent in list(svg.iter()):
        for child in list(parent):
            if not isinstance(child.tag, str) or child.tag.endswith(("script", "title", "desc")):
                parent.remove(child)
    return svg
