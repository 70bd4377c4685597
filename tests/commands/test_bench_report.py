"""A benchmark report is one page that loads nothing, shows every figure of its run, and trusts no text in it."""

import copy
import json
import random
import struct
import sys
from html.parser import HTMLParser

import pytest
from bench_runs import bench_run

from bebert_infer.bench.records import parse_run
from bebert_infer.bench.report import drawing as bench_drawing
from bebert_infer.bench.report.drawing import digits, largest, log_ticks, short, spread
from bebert_infer.bench.report.page import write_report
from bebert_infer.bench.report.plots import save_plots
from bebert_infer.bench.report.published import ROWS
from bebert_infer.errors import DataError, MissingExtraError

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """What a strict reader finds in a page: tags that close in order, attributes, and text."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.links, self.texts, self.attributes = [], [], [], [], []
        self.feed(html)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):  # noqa: D102
        self.tags.append(tag)
        self.attributes += attrs
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):  # noqa: D102
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):  # noqa: D102
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self):  # noqa: D102
        return "\n".join(self.texts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A report of four engines in two groups, at two lengths."""
    pytest.importorskip("matplotlib", reason="pictures need the extra [bench]")
    folder = tmp_path_factory.mktemp("report")
    run = bench_run(count=4, lengths=(16, 128), groups=("demo model", "BERT-base"))
    assert write_report(run, folder) == folder / "report.html"
    return folder


@pytest.fixture
def without_matplotlib(monkeypatch):
    for name in ("matplotlib", "matplotlib.style", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)


def test_every_picture_is_a_png_1280_pixels_wide(folder):
    pictures = sorted(folder.glob("*.png"))
    kinds = {file.name.split("-")[0].removesuffix(".png") for file in pictures}
    assert kinds == {"latency", "speedup", "throughput", "size", "operations", "accuracy"}
    assert len(pictures) == 2 * 5 + 1  # each kind for both groups, accuracy for all
    for file in pictures:
        head = file.read_bytes()[:24]
        width, height = struct.unpack(">II", head[16:24])
        assert head.startswith(b"\x89PNG") and width == 1280 and 300 < height < 2500, file.name


def test_nothing_else_is_left_in_the_folder(folder):
    assert {file.suffix for file in folder.iterdir()} == {".png", ".html"}


def test_the_page_has_every_engine_every_figure_and_all_pictures(folder):
    run = parse_run(bench_run(count=4, lengths=(16, 128), groups=("demo model", "BERT-base")))
    page = Page((folder / "report.html").read_text("utf-8"))
    for engine in run.engines:
        assert engine.name in page.texts and f"{engine.bytes:,}" in page.texts
        assert digits(engine.load_s) in page.texts and digits(engine.first_answer_s) in page.texts
        assert digits(engine.peak_rss_bytes / 2**20) in page.texts
        assert digits(engine.install_bytes / 2**20) in page.texts
        assert f"{engine.first_answer_s / 0.16:.1f}×" in page.texts
        assert f"{100 * engine.accuracy.value:.2f}" in page.texts
        assert all(f"{value:,}" in page.texts for value in (engine.bytes_by_kind or {}).values())
    for row in run.latency:
        assert f"{digits(row.median_ms)} ({digits(row.p10_ms)}–{digits(row.p90_ms)})" in page.texts
    for row in run.throughput:
        assert any(text.startswith(f"{digits(row.sentences_per_s)} (") for text in page.texts)
    assert {row.early_exit for row in run.texts} == {None, "exact"}
    for row in run.texts:
        assert row.engine + (", early exit exact" if row.early_exit else "") in page.texts
        assert f"{digits(row.median_ms)} ({digits(row.p10_ms)}–{digits(row.p90_ms)})" in page.texts
        assert row.members_run is None or f"{row.members_run:.2f}" in page.texts
    assert "1.56×" in page.texts  # early exit of two members, 0.11 · 65.8 ms, against int8 in 0.2 · 56.4
    for row in run.time_by_operation:
        assert row.operation in page.texts and f"{row.ms:.3f} ({row.share:.1%})" in page.texts
    assert all(row.name in page.texts and f"{row.score:.2f}" in page.texts for row in ROWS)
    for word in (run.machine.cpu, "avx512bw", "af4042d", 'pip install "bebert-infer[bench]"', "Not available on this"):
        assert word in page.text
    assert "3.25×" in page.texts  # 213.9 / 65.8 ms
    assert "BERT-base: operations for 64 tokens, all members" in page.texts
    assert "left out, because --quick" in page.text and "left out: 1024 tokens" in page.text
    assert page.tags.count("img") == len(list(folder.glob("*.png")))
    assert all(text for name, text in page.attributes if name == "alt")


def test_the_page_loads_nothing_and_runs_nothing(folder):
    html = (folder / "report.html").read_text("utf-8")
    page = Page(html)
    assert page.links and all(link.startswith("data:image/png;base64,") for link in page.links)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(page.tags)
    assert "http:" not in html and "https:" not in html and "url(" not in html and "@import" not in html
    assert "default-src 'none'" in html


def test_tables_and_pictures_scroll_inside_containers_of_their_own(folder):
    html = (folder / "report.html").read_text("utf-8")
    page = Page(html)
    assert html.count('<div class="scroll"') == page.tags.count("table") + page.tags.count("img")


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "$\\frac{1}{$ $title ${body} %s {0}",
    "&lt;b&gt; [bold]\nnext\tline \x1b[31m",
    "long " * 100,
    "",
)


def _rename(value, names):
    """The same run with other names of groups and engines."""
    text = json.dumps(value)
    for old, new in names.items():
        text = text.replace(json.dumps(old), json.dumps(new))
    return json.loads(text)


def _harmless(page, name):
    assert not {"script", "b"} & set(page.tags) and not any(key.startswith("on") for key, _ in page.attributes)
    assert all(link.startswith("data:") for link in page.links)
    assert name in page.text


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_shown_and_does_nothing(tmp_path, without_matplotlib, name):
    run = bench_run(count=3, lengths=(128,), groups=("one geometry",))
    run = _rename(run, {"one geometry": f"g{name}", "PyTorch fp32": name, "1-1-4 half width, 2 members": f"p{name}"})
    run["machine"] |= {"cpu": name, "isa": name, "products": {name: name}, "versions": {name: name}}
    run |= {"missing": {name: name}, "energy": name, "date": name, "commit": name}
    run["settings"][name] = [name]
    run["engines"][2]["bytes_by_kind"] = {name: 5}
    run["engines"][2]["operations"] = {name: 5e9}
    run["engines"][2]["accuracy"]["metric"] = name
    run["time_by_operation"][0]["operation"] = name
    _harmless(Page(write_report(run, tmp_path).read_text("utf-8")), name)


def test_hostile_names_are_drawn_into_pictures_of_the_same_folder(tmp_path):
    pytest.importorskip("matplotlib", reason="pictures need the extra [bench]")
    run = bench_run(count=6, lengths=(128,), groups=("one geometry",))
    names = dict(zip((engine["name"] for engine in run["engines"]), HOSTILE, strict=True))
    run = _rename(run, names | {"one geometry": "../../" + HOSTILE[2], "codes": HOSTILE[0], "norm": HOSTILE[2]})
    page = Page(write_report(run, tmp_path / "new").read_text("utf-8"))
    for name in HOSTILE:
        _harmless(page, name)
    assert [file.name for file in tmp_path.iterdir()] == ["new"] and len(list((tmp_path / "new").iterdir())) == 7


def test_without_matplotlib_tables_stay_and_the_page_says_what_to_install(tmp_path, without_matplotlib):
    run = bench_run(count=3, lengths=(128,))
    with pytest.raises(MissingExtraError, match=r'"matplotlib": pip install "bebert-infer\[bench\]"'):
        save_plots(parse_run(run), tmp_path)
    page = Page(write_report(run, tmp_path).read_text("utf-8"))
    assert 'No pictures: this needs the package "matplotlib"' in page.text and "img" not in page.tags
    assert "213.9" not in page.text and "214 (205–227)" in page.texts  # three digits


@pytest.mark.parametrize(("busy", "warned"), [(0.53, True), (0.2, False), (None, False)])
def test_a_busy_machine_is_said_before_all_figures(tmp_path, without_matplotlib, busy, warned):
    run = bench_run(count=3, lengths=(128,)) | {"cores_of_others": busy}
    text = Page(write_report(run, tmp_path).read_text("utf-8")).text
    assert ("these times may be too long" in text) == warned
    if warned:
        assert text.index("0.53 cores busy") < text.index("In short")


def test_a_run_of_version_1_has_no_install_size_and_says_how_it_started(tmp_path, without_matplotlib):
    run = bench_run(count=1, lengths=(128,)) | {"version": 1, "import_numpy_s": None}
    for engine in run["engines"]:
        del engine["install_bytes"], engine["install_packages"]
    page = Page(write_report(run, tmp_path).read_text("utf-8"))
    assert "Engines started in the environment that the command ran in, with ready token ids." in page.texts
    assert "first answer (s)" in page.texts and digits(run["engines"][0]["first_answer_s"]) in page.texts


def test_what_was_not_measured_is_said_and_never_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="pictures need the extra [bench]")
    run = bench_run(count=3, lengths=(128,), accuracy=False)
    packed = run["engines"].pop(2)
    run["engines"] = [packed | {"load_s": None, "peak_rss_bytes": None, "flops_paper": None, "operations": None}]
    for name in ("latency", "throughput"):
        run[name] = [row for row in run[name] if row["engine"] == packed["name"]]
    run |= {"throughput": [], "time_by_operation": [], "missing": {}}
    page = Page(write_report(run, tmp_path).read_text("utf-8"))
    for sentence in (
        "BERT-base: no full-precision engine was measured, so there is nothing to compare with.",
        "Not measured in this run.",
        "Not measured: no labelled file was given.",
        "None: every engine that is known was measured.",
        "Published, for BERT-base; not measured here",
    ):
        assert sentence in page.texts
    assert "Measured here" not in page.texts and "1-1-4 half width, 2 members (random weights)" in page.texts
    assert {file.name.split("-")[0] for file in tmp_path.glob("*.png")} == {"latency", "size", "accuracy.png"}


def test_one_call_has_no_range(tmp_path, without_matplotlib):
    run = bench_run(count=1, lengths=(128,))
    for row in [*run["latency"], *run["throughput"]]:
        row["calls"] = 1
    page = Page(write_report(run, tmp_path).read_text("utf-8"))
    assert "214 (1 call)" in page.texts and "5.19 (1 call)" in page.texts and "(205" not in page.text


def test_a_report_that_fails_leaves_the_older_one_as_it_was(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="pictures need the extra [bench]")
    from matplotlib.figure import Figure

    (tmp_path / "report.html").write_text("older")

    def fail(figure, file, **kwargs):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(bench_run(count=3, lengths=(128,)), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "older"


def test_a_run_that_lacks_a_figure_is_refused_by_its_name(tmp_path):
    run = bench_run(count=3, lengths=(128,))
    del run["latency"][1]["p90_ms"]
    with pytest.raises(DataError, match=r"this run is damaged: .*`p90_ms`.*latency\[1\]"):
        write_report(run, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("count", [3, 12])
def test_letters_are_large_and_names_beside_lines_do_not_touch(tmp_path, monkeypatch, count):
    pytest.importorskip("matplotlib", reason="pictures need the extra [bench]")
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    pictures = {}
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, file, **_: pictures.update({file.name: figure}) or _empty(file)
    )
    run = parse_run(bench_run(count=count, lengths=(16, 128), accuracy=True))
    save_plots(run, tmp_path)
    assert len(pictures) == 6
    for name, figure in pictures.items():
        texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
        pixels = figure.get_size_inches()[0] * figure.dpi
        assert pixels == pytest.approx(1280)
        assert min(text.get_fontsize() * figure.dpi / 72 for text in texts) >= 10 * 96 / 72, name  # 10 points of a page
    figure = next(figure for name, figure in pictures.items() if name.startswith("latency"))
    figure.draw_without_rendering()
    names = {engine.name for engine in run.engines}
    boxes = [text.get_window_extent() for text in figure.findobj(Text) if text.get_text() in names]
    assert len(boxes) == count
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    assert all(box.x1 <= 1281 and box.y0 >= 0 for box in boxes)


def _empty(file):
    file.write_bytes(b"")


def test_spread_keeps_order_distance_and_bounds():
    draw = random.Random(0)
    for count in (1, 2, 5, 12, 30):
        places = [draw.random() for _ in range(count)]
        moved = spread(places, 0.06)
        order = sorted(range(count), key=lambda i: places[i])
        steps = [moved[b] - moved[a] for a, b in zip(order, order[1:], strict=False)]
        assert all(step >= min(0.06, 1 / max(1, count - 1)) - 1e-9 for step in steps)
        assert min(moved) >= -1e-9 and max(moved) <= 1 + 1e-9
    assert spread([0.1, 0.5, 0.9], 0.06) == [0.1, 0.5, 0.9]  # what has room stays


@pytest.mark.parametrize(("low", "high"), [(0.2, 1100), (12, 18), (99, 180), (1, 9), (0.011, 0.03)])
def test_logarithmic_axes_have_four_ticks_or_more(low, high):
    ticks = log_ticks(low, high)
    assert 4 <= len(ticks) <= 20 and all(low <= tick <= high for tick in ticks) and ticks == sorted(set(ticks))


def test_largest_loses_nothing():
    parts = {"a": {str(i): float(i) for i in range(12)}, "b": {"11": 1.0, "0": 2.0}}
    kept = largest(copy.deepcopy(parts), 7)
    assert {bar: sum(values.values()) for bar, values in kept.items()} == {"a": 66.0, "b": 3.0}
    assert list(kept["a"]) == ["11", "10", "9", "8", "7", "6", "5", bench_drawing.OTHERS]
    assert bench_drawing.OTHERS not in largest(parts, 11)["a"]  # one left over keeps its own name


def test_short_names_fit_and_stay_on_one_line():
    assert short("a\nb\x1b[1m  c") == "a b [1m c" and short(" \n") == "?"
    assert len(short("x" * 100)) <= 34 and short("OpenVINO int8 NNCF") == "OpenVINO int8 NNCF"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (213.9, "214"), (99.96, "100"), (12345.6, "12,346"), (5.0, "5.00"), (0.0123, "0.0123")],
)
def test_digits(value, text):
    assert digits(value) == text
