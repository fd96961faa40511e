"""The checks of a validation as JUnit XML, which every CI system shows."""

from xml.etree import ElementTree as Xml

from haldane.release.validate import Validation


def junit(name: str, validation: Validation) -> str:
    """One test suite `name` with one case per check: refused is a failure, untried an error."""
    kinds = {"refused": "failure", "untried": "error"}
    count = {kind: sum(kinds.get(check.result) == kind for check in validation.checks) for kind in kinds.values()}
    suite = Xml.Element(
        "testsuite",
        name=name,
        tests=str(len(validation.checks)),
        failures=str(count["failure"]),
        errors=str(count["error"]),
    )
    for check in validation.checks:
        case = Xml.SubElement(suite, "testcase", classname="haldane.release", name=check.name)
        kind = kinds.get(check.result, "system-out")
        told = Xml.SubElement(case, kind)
        # XML has no way to write most control characters, and an error's text may hold any.
        text = "".join(sign if sign.isprintable() else " " for sign in check.detail)
        if kind == "system-out":
            told.text = text
        else:
            told.set("message", text)
    Xml.indent(suite)
    return Xml.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
