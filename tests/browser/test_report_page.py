"""What a person reads on the report page, in a real browser without scripts or network."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from haldane.domain.rollout import Phase, RolloutId
from haldane.testing.gallery import MemoryAgent, a_story, canary_pairs
from haldane.web import report

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

HARMFUL = a_story(batches=list(canary_pairs(1500, wrong=0.08)), phase=Phase.ROLLED_BACK)
GOOD = a_story(batches=list(canary_pairs(3000, seed=3)), phase=Phase.SUCCEEDED, id=RolloutId("credit-3"))
WITHOUT = a_story(phase=Phase.ROLLED_BACK, id=RolloutId("credit-5"), why="r0: version 5 failed to load: DATA_LOSS")

pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture(scope="module")
def browser(need_binary) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=need_binary("chromium"), args=FLAGS)
        yield made
        made.close()


def opened(browser: Browser, tmp_path: Path, html: str, *, scheme: str = "light", width: int = 1180) -> Page:
    """The page as read from a file, with scripts off and every request written down."""
    path = tmp_path / "page.html"
    path.write_text(html, encoding="utf-8")
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=False
    )
    page = context.new_page()
    page.asked = []  # type: ignore[attr-defined]
    page.on("request", lambda request: page.asked.append(request.url))  # type: ignore[attr-defined]
    page.goto(path.as_uri())
    return page


def box(page: Page, selector: str) -> dict[str, float]:
    found = page.locator(selector).first.bounding_box()
    assert found is not None, selector
    return dict(found)


def test_the_verdict_is_the_first_thing_to_be_read(browser, tmp_path):
    page = opened(browser, tmp_path, report.page(HARMFUL))
    banner = page.locator(".banner")
    assert "WITHDRAWN" in banner.inner_text()
    assert "Harm shown after" in banner.inner_text()
    assert box(page, ".banner")["y"] < 100
    assert page.title() == "credit 1 → 2: Withdrawn"


def test_the_page_asks_for_nothing_but_itself(browser, tmp_path):
    page = opened(browser, tmp_path, report.combined([HARMFUL, GOOD, WITHOUT], title="Three"))
    assert len(page.asked) == 1
    assert page.asked[0].startswith("file:")


def test_the_findings_table_says_which_metric_is_harmful(browser, tmp_path):
    page = opened(browser, tmp_path, report.page(HARMFUL))
    rows = page.locator("table.findings tbody tr").all_inner_texts()
    accuracy = next(row for row in rows if row.startswith("accuracy"))
    assert re.search(r"harmful.*\+\d+\.\d\d pp.*\+1\.00 pp", accuracy, re.DOTALL)
    assert sum("harmful" in row for row in rows) == 1


def test_evidence_rises_over_its_threshold_where_harm_was_shown(browser, tmp_path):
    page = opened(browser, tmp_path, report.page(HARMFUL))
    plot = page.locator("svg.plot").first
    assert "withdraw at 100:1" in plot.get_attribute("aria-label")
    threshold = plot.locator("path.bad-rule").bounding_box()["y"]
    points = plot.locator("polyline.m-all").get_attribute("points").split()
    heights = [float(point.split(",")[1]) for point in points]
    scale = plot.bounding_box()["width"] / 760
    line = plot.bounding_box()["y"] + min(heights) * scale
    assert line < threshold
    assert heights[0] > min(heights)


def test_every_plot_has_a_size_and_its_words_stay_inside(browser, tmp_path):
    page = opened(browser, tmp_path, report.page(GOOD))
    places = page.locator("svg.plot").evaluate_all(
        """plots => plots.map(plot => {
             const whole = plot.getBoundingClientRect();
             const outside = [...plot.querySelectorAll("text")].filter(text => {
               const place = text.getBoundingClientRect();
               return place.left < whole.left - 1 || place.right > whole.right + 1 || place.top < whole.top - 1;
             });
             return [whole.width, whole.height, outside.map(text => text.textContent)];
           })"""
    )
    assert len(places) == 6
    for width, height, outside in places:
        assert width > 350
        assert height > 120
        assert outside == []


def test_without_data_the_page_says_so_and_draws_nothing(browser, tmp_path):
    page = opened(browser, tmp_path, report.page(WITHOUT))
    text = page.locator("main").inner_text()
    assert "No data. No pair was judged" in text
    assert "failed to load: DATA_LOSS" in text
    assert page.locator("svg").count() == 0
    assert "0.00" not in text


def test_labels_before_and_after_stand_side_by_side(browser, tmp_path):
    page = opened(browser, tmp_path, report.page(GOOD))
    assert page.locator("table.labels tr.moved").all_inner_texts() == ["r0\tstable\t1\t2", "r1\tstable\t1\t2"]


def test_the_combined_report_leads_to_each_rollout(browser, tmp_path):
    page = opened(browser, tmp_path, report.combined([HARMFUL, GOOD, WITHOUT], title="Three canaries"))
    assert page.locator("table.overview tbody tr").count() == 3
    page.locator("table.overview a").nth(2).click()
    assert page.url.endswith("#credit-5")
    assert page.locator("#credit-5 .banner").is_visible()


def test_the_index_links_to_rollouts_and_names_servers_not_seen(browser, tmp_path):
    agent = MemoryAgent()
    agent.add(HARMFUL)
    page = opened(browser, tmp_path, report.index_page(agent.status(), [HARMFUL.rollout]))
    assert page.locator("table.rollouts a").get_attribute("href") == "/rollouts/credit-2-test"
    assert "not seen" in page.locator("table.servers").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_told_from_the_paper(browser, tmp_path, scheme):
    """WCAG AA: 4.5 to 1 for text, in both schemes."""
    page = opened(browser, tmp_path, report.combined([HARMFUL, GOOD, WITHOUT], title="Three"), scheme=scheme)
    paper = colours(page, "body", "background-color")
    card = colours(page, ".card", "background-color")
    for selector, behind in [("h2", paper), (".facts dd", paper), (".small", card), ("td .sub", card), ("th", card)]:
        assert contrast(colours(page, selector, "color"), behind) >= 4.5, selector
    for look in (".pill.good", ".pill.bad", ".banner .word"):
        behind = ".banner" if "banner" in look else look
        assert contrast(colours(page, look, "color"), colours(page, behind, "background-color")) >= 4.5, look


@pytest.mark.parametrize("width", [390, 820, 1600])
def test_the_page_never_scrolls_sideways(browser, tmp_path, width):
    page = opened(browser, tmp_path, report.page(HARMFUL), width=width)
    ends = page.locator("main, .card, .banner").evaluate_all("all => all.map(one => one.getBoundingClientRect().right)")
    assert max(ends) <= width


def test_a_picture_of_the_page_is_not_blank(browser, tmp_path):
    full = opened(browser, tmp_path, report.page(HARMFUL)).screenshot(full_page=True)
    empty = opened(browser, tmp_path, "<!doctype html><title>x</title>").screenshot(full_page=True)
    assert len(full) > 10 * len(empty)


def test_hostile_words_are_only_words(browser, tmp_path):
    evil = '<img src="http://127.0.0.1:9/x"><script>document.title="owned"</script>'
    story = replace(HARMFUL, title=evil, sentences=[evil], rollout=replace(HARMFUL.rollout, why=evil))
    page = opened(browser, tmp_path, report.page(story))
    assert len(page.asked) == 1
    assert page.locator(".banner img").count() == 0
    assert "<script>" in page.locator(".banner").inner_text()


# --- colours -----------------------------------------------------------------


def colours(page: Page, selector: str, name: str) -> tuple[float, float, float]:
    """The computed colour; asked from outside, the page's own scripts stay off."""
    value = page.locator(selector).first.evaluate("(node, name) => getComputedStyle(node).getPropertyValue(name)", name)
    red, green, blue = (float(part) for part in re.findall(r"[\d.]+", value)[:3])
    return red, green, blue


def contrast(one: tuple[float, float, float], other: tuple[float, float, float]) -> float:
    """Contrast ratio by WCAG 2."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: tuple[float, float, float]) -> float:
    parts = [part / 255 for part in colour]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
