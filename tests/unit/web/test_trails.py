"""Evidence over time as an SVG file that stands by itself."""

import xml.etree.ElementTree as ET

from haldane.web.trails import drawn

SVG = "{http://www.w3.org/2000/svg}"


def test_one_line_per_judgement_against_the_level_that_withdraws() -> None:
    picture = drawn({"a <b>": [(0.0, 0.0), (5.0, 1.0)], "c": [(0.0, 0.0), (9.0, 3.0)]}, alpha=0.01)
    root = ET.fromstring(picture)
    assert root.tag == f"{SVG}svg"
    lines = list(root.iter(f"{SVG}polyline"))
    assert [line.findtext(f"{SVG}title") for line in lines] == ["a <b>", "c"]
    assert "withdraw at 100:1" in picture
    assert {"a <b>", "c"} <= {text.text for text in root.iter(f"{SVG}text")}
    style = root.findtext(f"{SVG}style")
    assert style is not None and ".m-accuracy" in style


def test_a_judgement_without_evidence_can_be_drawn() -> None:
    assert ET.fromstring(drawn({"empty": [(0.0, 0.0)]}, alpha=0.01)).tag == f"{SVG}svg"
