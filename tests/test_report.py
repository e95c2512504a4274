"""The report: one file, offline, escaped, drawn by a real browser in light and dark at any width."""

from __future__ import annotations

import base64
import json
import re
import resource
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from playwright.sync_api import Browser, Page

import mtlviz as mv
from mtlviz.errors import FrameError, RunLogError
from mtlviz.report import FIGURES, _script_json, report
from mtlviz.runlog import Event, Measure, RunInfo, RunLog, TaskInfo
from tests.analysis.runs import filled, hand, long_run, made, rewound
from tests.strategies import streams

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "a<b & \"quoted\" 'single' $cash ${cash} %{y}",
    "<!--<script>",
    "a very long task name that nobody should use but somebody will, for it says what the task is about",
]
VOID = {"meta", "br", "img", "input", "hr", "link"}


class Outline(HTMLParser):
    """The elements of a page, its visible text, and whether every element is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, text: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += text
        elif not self.open or self.open[-1] != "style":
            self.text += text


def hostile_log() -> RunLog:
    """A run whose every text wants to break out of the page."""
    info, records = made(40, names=HOSTILE)
    bad = RunInfo(
        HOSTILE[0], info.tasks, layers=(HOSTILE[1], HOSTILE[2]), config={HOSTILE[0]: HOSTILE, "weighting": HOSTILE[1]}
    )
    detail = {"type": HOSTILE[0], "message": HOSTILE[1], "traceback": f"Traceback\n{HOSTILE[0]}\n{HOSTILE[1]}"}
    return filled(bad, [*records, Event(40, 36, "error", HOSTILE[0], detail)])


def figures_of(outline: Outline) -> dict:
    """The figures that the page carries as JSON."""
    (data,) = [text for text in outline.scripts if text.startswith('{"losses"')]
    return json.loads(data)


def test_a_page_holds_every_figure_table_and_text() -> None:
    outline = Outline(report(hand()))
    assert not outline.open
    figures = figures_of(outline)
    assert list(figures) == list(FIGURES)
    ids = {attributes.get("id") for _, attributes in outline.elements}
    assert ids >= {f"figure-{name}" for name in FIGURES}
    for text in (
        "Run of hand",
        "3 tasks on one shared trunk, weighted by equal",
        "finished",
        "What a rewind discarded",
    ):
        assert text in outline.text
    for number in ("0.900", "1.00", "2.00", "40%"):  # final of a, best and final of b, conflict rate of a and b
        assert number in outline.text
    assert [trace["name"] for trace in figures["losses"]["data"][-3:]] == ["a", "b", "c"]
    values = figures["losses"]["data"][-3]["y"]
    assert np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"]).tolist() == [10, 4, 2]


def test_a_page_needs_nothing_from_elsewhere() -> None:
    page = report(hand())
    outline = Outline(page)
    for tag, attributes in outline.elements:
        assert not {"src", "href", "srcset", "action"} & set(attributes), tag
    assert page.count("plotly.js v") == 1
    (policy,) = [a["content"] for tag, a in outline.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_hostile_texts_stay_texts() -> None:
    outline = Outline(report(hostile_log()))
    assert not outline.open
    assert not [
        tag for tag, attributes in outline.elements if tag == "img" or any(a.startswith("on") for a in attributes)
    ]
    assert len(outline.scripts) == 3
    for text in (f"Run of {HOSTILE[0]}", HOSTILE[1], HOSTILE[2], HOSTILE[3], HOSTILE[4], f"Traceback\n{HOSTILE[0]}"):
        assert text in outline.text
    assert "alert(" not in "".join(outline.scripts[1:]).replace(outline.scripts[1], "")


def test_no_text_can_end_the_script_that_carries_the_figures() -> None:
    """Names are escaped for plotly already; this holds for whatever else may come to stand in a figure."""
    content = {"</script><!-- & >": ["<script>", "\u2028", float("nan") != 0]}
    text = _script_json(content)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == content


@pytest.mark.parametrize(
    "log",
    [
        filled(hand().info, []),
        filled(RunInfo("bare", (TaskInfo("only", "accuracy", "max"),)), []),
        long_run(1, tasks=1, layers=False),
        long_run(1, tasks=2),
        long_run(30, tasks=1),
        long_run(12, tasks=40),
        rewound(),
    ],
    ids=["no step", "bare", "one step, one task", "one step", "one task", "forty tasks", "rewound"],
)
def test_every_kind_of_run_gives_a_whole_page(log: RunLog) -> None:
    outline = Outline(report(log))
    assert not outline.open
    assert list(figures_of(outline)) == list(FIGURES)


@given(stream=streams())
@settings(max_examples=10, deadline=None)
def test_every_stream_of_records_gives_a_whole_page(stream: tuple) -> None:
    outline = Outline(report(filled(*stream)))
    assert not outline.open
    assert len(outline.scripts) == 3


def test_it_writes_a_file_and_says_where(tmp_path: Path) -> None:
    path = report(hand(), tmp_path / "report.html")
    assert path == tmp_path / "report.html"
    assert path.read_text(encoding="utf-8") == report(hand())
    assert mv.report.report is report
    with pytest.raises(FrameError, match="report needs a RunLog"):
        report(hand().steps)  # type: ignore[call-overload]


def test_a_report_that_cannot_be_written_leaves_everything_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    old = tmp_path / "report.html"
    old.write_text("old")
    names = ("file/report.html", "missing/deep/report.html", "folder", "", "x" * 300)
    for path in (*(tmp_path / name for name in names), "/"):
        with pytest.raises(RunLogError, match=r"Could not write the report to .*Choose a file .* folder that exists"):
            report(hand(), path)
    most, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # as on a disk that is full in the middle of the page
    try:
        with pytest.raises(RunLogError, match="File too large"):
            report(hand(), old)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    assert old.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "report.html"]


def test_a_report_goes_through_a_link_or_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "real.html").write_text("old")
    (tmp_path / "link.html").symlink_to("real.html")
    report(hand(), tmp_path / "link.html")
    assert (tmp_path / "link.html").is_symlink()
    assert (tmp_path / "real.html").read_text(encoding="utf-8") == report(hand())
    report(hand(), "/dev/null")
    assert Path("/dev/null").is_char_device()


def test_the_task_table_shows_the_test_metric() -> None:
    log = hand()
    log.append(Measure(step=3, name="test", task="c", value=0.123))
    text = Outline(report(log)).text
    assert "Test" in text
    assert "0.123" in text


# ---- in a real browser


def opened(browser: Browser, path: Path, *, width: int = 1400, scheme: str = "light") -> tuple[Page, list[str]]:
    """The page once its figures are drawn, and everything that should not have happened on the way."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    wrong: list[str] = []
    page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("console", lambda message: wrong.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on(
        "request",
        lambda request: wrong.append(request.url) if not request.url.startswith(("file:", "data:", "blob:")) else None,
    )
    page.goto(path.as_uri())
    page.wait_for_selector(f"html[data-drawn={scheme}]", timeout=60_000)
    return page, wrong


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (420, "dark")])
def test_a_browser_draws_hostile_names_as_they_are(browser: Browser, tmp_path: Path, width: int, scheme: str) -> None:
    page, wrong = opened(browser, report(hostile_log(), tmp_path / "report.html"), width=width, scheme=scheme)
    for name in FIGURES:
        assert page.locator(f"#figure-{name} svg.main-svg").count() >= 2, name
    for name in (
        "losses",
        "validations",
        "shares",
        "weights",
        "gradient_norms",
        "relative_rates",
        "rate_variance",
        "conflict_rate",
    ):
        assert page.locator(f"#figure-{name} .scatterlayer path.js-line").count() > 0, name
    for name in ("conflict_matrix", "layer_conflict"):
        assert page.locator(f"#figure-{name} .heatmaplayer image").count() > 0, name
    legend = page.locator("#figure-losses .legend").text_content() or ""
    assert HOSTILE[0] in legend
    assert '<b & "quoted"' in legend or "a<b" in legend
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("img").count() == 0
    page.locator("#figure-losses .nsewdrag").hover()
    page.wait_for_selector("#figure-losses .hoverlayer text")
    assert HOSTILE[0] in (page.locator("#figure-losses .hoverlayer").text_content() or "")
    assert wrong == []
    page.close()


@pytest.mark.browser
def test_legends_never_cover_the_data(browser: Browser, tmp_path: Path) -> None:
    path = report(
        long_run(60, names=[f"quite a long task name, number {i}" for i in range(12)]), tmp_path / "report.html"
    )
    for width in (400, 1400):
        page, wrong = opened(browser, path, width=width)
        for name in ("losses", "validations", "shares", "conflict_rate"):
            edges = page.evaluate(
                """(id) => {
                    const plot = document.getElementById(id);
                    const legend = plot.querySelector("g.legend .bg").getBoundingClientRect();
                    const size = plot._fullLayout._size, top = plot.getBoundingClientRect().top;
                    return [legend.top - top, legend.bottom - top, size.t, size.h];
                }""",
                f"figure-{name}",
            )
            assert edges[0] >= -1, (name, width)
            assert edges[1] <= edges[2] + 1, (name, width)
            assert edges[3] > 100, (name, width)
        assert wrong == []
        page.close()


@pytest.mark.browser
def test_the_page_follows_the_colour_scheme_while_it_is_open(browser: Browser, tmp_path: Path) -> None:
    page, wrong = opened(browser, report(hand(), tmp_path / "report.html"))

    def paper() -> str:
        return page.locator("#figure-losses svg.main-svg").first.evaluate("(svg) => svg.style.background")

    light = paper()
    page.emulate_media(color_scheme="dark")
    page.wait_for_selector("html[data-drawn=dark]")
    assert {light, paper()} == {"rgb(255, 255, 255)", "rgb(23, 25, 28)"}
    assert re.fullmatch(r"rgb\(17, 19, 21\)", page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert wrong == []
    page.close()
