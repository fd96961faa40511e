"""The `analysis:` of a config file by itself: a policy, to hold against evidence that is there already."""

from pathlib import Path

from pydantic import ValidationError

from haldane.config.analysis import AnalysisSection
from haldane.config.load import in_our_words, read_text
from haldane.config.marks import read_yaml
from haldane.config.problems import ConfigError, Loc, Problem, dotted


def load_analysis(path: Path | str, model: str = "") -> AnalysisSection:
    """How the file judges that model; it may be a whole config, or hold `analysis:` alone.

    Nothing else in the file is looked at. Raises ConfigError with every
    mistake of the block at once.
    """
    file = str(path)
    marked = read_yaml(read_text(Path(path)), file)
    if marked.problems:
        raise ConfigError(marked.problems)
    for place in (("models", model, "analysis"), ("analysis",)):
        block = marked.value
        for key in place:
            block = block.get(key) if isinstance(block, dict) else None
        if block is not None:
            break
    else:
        raise ConfigError([Problem(file, 0, "analysis", "missing; give the rules of judging as in haldane.yaml")])
    try:
        return AnalysisSection.model_validate(block)
    except ValidationError as error:
        problems = []
        for details in error.errors():
            loc: Loc = marked.known((*place, *details["loc"]))
            problems.append(Problem(file, marked.line(loc), dotted(loc), in_our_words(details, loc)))
        raise ConfigError(problems) from error
