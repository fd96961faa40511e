"""What is read from a real SavedModel without TensorFlow, and which graphs are refused."""

import shutil

import pytest
from tests.unit.release import saved_models

from haldane.release.graph import broken_promises, check_graph, read_graph, signatures_in
from haldane.release.manifest import NotReleasable
from haldane.tensors import Signature, TensorSpec


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return saved_models.linear(tmp_path_factory.mktemp("model") / "1", "age", "income")


@pytest.fixture
def model(good, tmp_path):
    return shutil.copytree(good, tmp_path / "1")


def refused(folder, **options):
    with pytest.raises(NotReleasable) as caught:
        graph = read_graph(folder)
        check_graph(graph, folder, **{"frozen": False, **options})
        signatures_in(graph)
    return caught.value.check, str(caught.value)


def test_a_good_model_is_read_with_its_signature(model):
    graph = read_graph(model)
    check_graph(graph, model, frozen=False)
    signature = signatures_in(graph)["serving_default"]
    assert sorted(signature.inputs) == ["age", "income"]
    assert signature.outputs["score"].shape == (-1,)


def test_half_a_graph_file_and_none_are_refused(model):
    file = model / "saved_model.pb"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert refused(model) == ("graph", "saved_model.pb is not a SavedModel; was it copied to its end?")
    file.unlink()
    assert "is it the directory of one version" in refused(model)[1]


def test_another_tag_is_refused_with_those_there_are(model):
    saved_models.edit(model, lambda graph: graph.meta_info_def.tags.__setitem__(0, "train"))
    check, why = refused(model)
    assert check == "graph"
    assert why.endswith("there is {train}")


def test_lost_variables_are_refused(model):
    shutil.rmtree(model / "variables")
    assert refused(model)[0] == "variables"
    assert refused(model, frozen=True)[0] == "variables"  # it has some: they are lost


def test_a_model_that_learned_nothing_is_refused_unless_that_is_meant(tmp_path):
    model = saved_models.linear(tmp_path / "1", "age", learned=False)
    assert refused(model) == (
        "variables",
        "the graph has no variables, so nothing learned; if that is meant: --frozen",
    )
    check_graph(read_graph(model), model, frozen=True)


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd", "words/../../1"])
def test_an_asset_outside_of_the_directory_is_refused(model, name):
    saved_models.edit(model, lambda graph: graph.asset_file_def.add(filename=name))
    assert refused(model) == ("paths", f"the graph names the asset {name!r}, outside of its directory")


def test_a_call_back_into_python_is_refused(model):
    saved_models.edit(model, lambda graph: saved_models.rename_operations(graph, "Relu", "PyFunc"))
    assert refused(model)[0] == "operations"


def test_a_model_without_a_signature_is_refused(model):
    saved_models.edit(model, lambda graph: graph.signature_def.clear())
    assert refused(model)[0] == "signatures"


def a_signature(inputs, outputs):
    def specs(tensors):
        return {name: TensorSpec(name, dtype, shape) for name, (dtype, shape) in tensors.items()}

    return {"serving_default": Signature("serving_default", "", specs(inputs), specs(outputs))}


SERVED = a_signature({"age": (1, (-1,)), "id": (9, (-1, 1))}, {"score": (1, (-1,))})


@pytest.mark.parametrize(
    ("inputs", "outputs", "said"),
    [
        ({}, {}, []),
        ({"age": None}, {}, ["serving_default: input age is gone"]),
        ({"age": (2, (-1,))}, {}, ["serving_default: input age was float, now double"]),
        ({"age": (1, (8,))}, {}, ["serving_default: input age had shape ('?',), now (8,)"]),
        ({"age": (1, None)}, {}, []),  # takes more than before
        ({"zip": (7, (-1,))}, {}, ["serving_default: input zip is new, and today's clients do not send it"]),
        ({}, {"score": None}, ["serving_default: output score is gone"]),
        ({}, {"score": (1, None)}, ["serving_default: output score had shape ('?',), now unknown"]),
        ({}, {"score": (1, (2,))}, []),  # promises more than before
        ({}, {"why": (7, (-1,))}, []),
    ],
)
def test_what_todays_clients_would_miss_is_said(inputs, outputs, said):
    def changed(old, change):
        merged = {name: (spec.dtype, spec.shape) for name, spec in old.items()} | change
        return {name: value for name, value in merged.items() if value is not None}

    old = SERVED["serving_default"]
    new = a_signature(changed(old.inputs, inputs), changed(old.outputs, outputs))
    assert list(broken_promises(SERVED, new)) == said


def test_a_signature_that_is_gone_is_said():
    assert list(broken_promises(SERVED, {})) == ["signature serving_default is gone"]
