"""The report of a real run in a real browser: nothing is loaded, nothing overflows, every class of values is seen."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import Browser, browser, find_browser
from runs import ROOT, run_to_end, summary_of

BROWSER = find_browser()
SIZES = ((390, 844), (1280, 900))
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium in PATH or in Playwright's folder")

# The contrast of text against what it stands on, the least over all elements of a selector (WCAG 2.2, 1.4.3).
LEAST_CONTRAST = """
(selector) => {
  const numbers = (colour) => {
    const canvas = Object.assign(document.createElement('canvas'), {width: 1, height: 1}).getContext('2d');
    canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (colour) => numbers(colour).slice(0, 3).map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if (numbers(colour)[3] === 255) return colour;
    }
    return 'white';
  };
  return Math.min(...[...document.querySelectorAll(selector)].map((element) => {
    const pair = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => b - a);
    return (pair[0] + 0.05) / (pair[1] + 0.05);
  }));
}
"""


@pytest.fixture(scope="module")
def report(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    told = run_to_end([sys.executable, "-m", "medvie_rl", "report", str(small_run), "--out", str(path)])
    assert f"report: {path}" in told
    return path


@pytest.fixture(scope="module")
def page(report: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert BROWSER is not None
    with browser(BROWSER, tmp_path_factory.mktemp("profile")) as opened:
        yield opened.open(report)


def test_the_numbers_are_those_of_the_runs_summary(small_run: Path, report: Path) -> None:
    summary, html = summary_of(small_run), report.read_text(encoding="utf-8")
    low, high = summary["delta_f1_ci95"]
    assert f"{summary['delta_f1']:+.3f}</b>, with a 95% interval from {low:+.3f} to {high:+.3f}" in html
    for when in ("before", "after"):
        for name in ("f1", "precision", "recall", "document_f1", "valid_json_rate"):
            assert f"{summary[when][name]:.3f}" in html
    for name, gain in summary["f1_gain_by_error_class"].items():
        assert not gain or f"<b>{gain:+.3f}</b>" in html, name
    assert str(ROOT) not in html.replace(str(small_run), "")


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_it_fits_its_window_and_can_be_read(page: Browser, width: int, height: int, scheme: str) -> None:
    page.resize(width, height)
    page.prefer(scheme)
    page.value("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert page.value("document.documentElement.scrollWidth") <= width
    assert page.value("document.documentElement.clientWidth") == width
    for selector in (".sign", ".answer .value", ".answer .class", ".note", ".ci", "nav a", "p", "th", "td", ".privacy"):
        assert page.value(f"({LEAST_CONTRAST})({json.dumps(selector)})") >= 4.5, selector
    smallest = (
        "Math.min(...[...document.querySelectorAll('main *')].map((e) => parseFloat(getComputedStyle(e).fontSize)))"
    )
    assert page.value(smallest) >= 12


@needs_browser
def test_nothing_is_loaded_and_nothing_complains(page: Browser, report: Path) -> None:
    page.open(report)
    images = "[...document.images].map((image) => [image.complete, image.naturalWidth > 0])"
    assert page.value("document.images.length") > 0
    assert page.value(images) == [[True, True]] * page.value("document.images.length")
    assert page.complaints == []
    assert {address.partition(":")[0] for address in page.requests} <= {"file", "data"}
    assert {address for address in page.requests if address.startswith("file:")} == {report.absolute().as_uri()}
    assert page.value("document.scripts.length") == 0


@needs_browser
def test_each_class_has_a_colour_a_sign_and_a_name_of_its_own(page: Browser) -> None:
    signs = "[...document.querySelectorAll('.key .chip')].map((e) => [e.innerText, e.firstChild.innerText])"
    colours = "[...document.querySelectorAll('.key .sign')].map((e) => getComputedStyle(e).backgroundColor)"
    for scheme in ("light", "dark"):
        page.prefer(scheme)
        found = page.value(colours)
        assert len(found) == len(set(found)) == 8
    assert len({tuple(pair) for pair in page.value(signs)}) == 8
    cells = "[...document.querySelectorAll('td.answer')].map((e) => [...e.classList].find((name) => name[1] === '-'))"
    assert {"o-correct", "o-misread"} <= set(page.value(cells))
    border = "getComputedStyle(document.querySelector('td.answer.o-correct')).borderLeftColor"
    page.resize(1280)
    assert page.value(border) == page.value("getComputedStyle(document.querySelector('.key .sign')).backgroundColor")


@needs_browser
def test_the_gallery_is_filtered_without_a_script(page: Browser) -> None:
    shown = "[...document.querySelectorAll('.gallery .document')].filter((e) => e.offsetHeight > 0).length"
    page.value("document.getElementById('filter-all').click()")
    everything = page.value(shown)
    for number in (1, 2, 3, 4):
        num = page.value(f"document.querySelectorAll('.gallery .r-{number}').length")
        if num:
            page.value(f"document.getElementById('filter-{number}').click()")
            assert page.value(shown) == num <= everything
    page.prefer("light", media="print")
    assert page.value(shown) == everything  # paper has them all
    page.prefer("light")
    page.value("document.getElementById('filter-all').click()")
