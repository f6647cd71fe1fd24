"""Take the pictures of terminals in docs/images anew: play the demo, then type commands about its cases."""

import asyncio
import html
import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.ansi import AnsiDecoder
from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment, Segments

from starter import local, serve
from starter.settings import Settings
from tests.starter.conftest import run
from tests.starter.screen import ENFORCE, terminal

IMAGES = Path(__file__).parents[2] / "docs" / "images"
WIDTHS = (80, 160)
NUMBER = "400-192-5397"
COMMANDS: dict[str, tuple[str, ...]] = {
    "todo": ("todo",),
    "due": ("due", "week"),
    "case": ("case", NUMBER),
    "figures": ("figures",),
}
# An officer's morning: the demo leaves no case open.
MORNING: tuple[tuple[str, ...], ...] = (
    ("report", "400-971-4988", "--facts", "回拨由他人接听，与登记客户不一致"),
    ("report", "400-194-1026", "--facts", "号码挂牌出售", "--business", "irregular"),
    ("report", "400-165-7322", "--facts", "客户投诉：停机三日无人处理", "--kind", "service-failure"),
    ("report", "400-970-3543", "--facts", "冒充银行客服", "--kind", "fraud"),
    ("report", "400-660-5835", "--facts", "实际用户与登记客户不一致"),
    ("report", "400-048-5575", "--facts", "实际用户与登记客户不一致"),
    ("rectified", "400-971-4988", "--statement", "已收回号码，恢复原客户使用"),
    ("appeal", "400-660-5835", "--statement", "号码一直由登记客户使用"),
    ("serious", "400-970-3543", "--reason", "涉案金额巨大"),
)
FONTS = "Menlo, Consolas, 'DejaVu Sans Mono', 'Noto Sans Mono CJK SC', 'Sarasa Mono SC', monospace"
# Nothing is looked up on the network: rich names a font there.
SVG = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
SVG = SVG.replace("font-family: Fira Code, monospace", f"font-family: {FONTS}")
SVG = SVG.replace("font-variant-east-asian: full-width;", "")

RUNS = re.compile(r"([\u2e80-\uffff]+|  +)")


def drawn(screen: str, typed: str, columns: int) -> str:
    """What a terminal shows, as SVG; what follows Chinese stands in the column where it stood there."""
    paper = Console(width=columns, record=True, file=io.StringIO(), highlight=False, color_system="truecolor")
    for line in AnsiDecoder().decode(screen.replace("\r\n", "\n").rstrip("\n")):
        for said in line.render(paper, end="\n"):
            parts = filter(None, RUNS.split(said.text))
            paper.print(Segments(Segment(part, said.style) for part in parts), end="")
    paper.print()
    svg = paper.export_svg(title=typed, code_format=SVG, unique_id=f"{typed.split()[1]}-{columns}")
    return re.sub(r'textLength="([\d.]+)"([^>]*>)([^<]*)', _as_wide, svg)


def _as_wide(run: re.Match[str]) -> str:
    """A run of text as wide as its columns: rich counts characters."""
    text = html.unescape(run[3])
    return f'textLength="{float(run[1]) / len(text) * cell_len(text):g}"{run[2]}{run[3]}'


async def _take(settings: Settings, folder: Path) -> None:
    env = {"ENFORCE_HOME": str(settings.home), "ENFORCE_OFFICER": "王静", "ENFORCE_CHANNEL": "outbox"}
    async with serve.cases(settings):
        for words in MORNING:
            ran = await run(*words, env=env | {"ENFORCE_OFFICER": "李敏"}, cwd=settings.home.parent)
            assert ran.code == 0, ran.err
        for name, words in COMMANDS.items():
            for columns in WIDTHS:
                async with terminal(*words, env=env, cwd=settings.home.parent, columns=columns) as screen:
                    code = await screen.ended()
                picture = folder / f"terminal-{name}-{columns}.svg"
                picture.write_text(drawn(screen.text, f"enforce {' '.join(words)}", columns), "utf-8")
                print(f"taken: {picture.name}, exit code {code}")  # noqa: T201


def main(into: Path = IMAGES) -> None:
    """Play and take."""
    with tempfile.TemporaryDirectory(prefix="e4-") as folder:
        subprocess.run([ENFORCE, "demo", "--exit"], cwd=folder, check=True)
        settings = Settings(home=Path(folder) / ".enforce-demo", channel="outbox")
        with local.servers(settings, time_skipping=True):
            asyncio.run(_take(settings, into))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
