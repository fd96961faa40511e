from haldane.release.check import problem


def a_version(base, name, *files):
    folder = base / name
    folder.mkdir(parents=True)
    for file in files:
        (folder / file).write_bytes(b"x")
    return folder


def test_a_directory_with_a_saved_model_is_fine_in_either_form_and_with_leading_zeros(tmp_path):
    a_version(tmp_path, "1", "saved_model.pb")
    a_version(tmp_path, "2", "saved_model.pbtxt")
    a_version(tmp_path, "0003", "saved_model.pb")
    assert [problem(str(tmp_path), version) for version in (1, 2, 3)] == ["", "", ""]


def test_a_version_that_is_not_there_is_told_with_those_that_are(tmp_path):
    a_version(tmp_path, "1", "saved_model.pb")
    a_version(tmp_path, "12", "saved_model.pb")
    a_version(tmp_path, "tmp-3", "saved_model.pb")
    assert problem(str(tmp_path), 3) == f"there is no version 3 in {tmp_path}; it holds 1, 12"


def test_an_empty_base_path_holds_no_version(tmp_path):
    assert problem(str(tmp_path), 1).endswith("it holds no version")


def test_a_file_in_the_place_of_a_version_is_told(tmp_path):
    (tmp_path / "1").touch()
    assert "is a file" in problem(str(tmp_path), 1)


def test_an_upload_that_is_not_complete_is_told_with_what_is_there(tmp_path):
    a_version(tmp_path, "1", "variables.index")
    (tmp_path / "2" / "saved_model.pb").mkdir(parents=True)  # a directory of that name is none
    assert problem(str(tmp_path), 1).endswith("(it holds variables.index); is the upload complete?")
    assert "has no saved_model.pb" in problem(str(tmp_path), 2)
    a_version(tmp_path, "3")
    assert "(it holds nothing)" in problem(str(tmp_path), 3)


def test_storage_that_cannot_be_read_from_here_is_left_to_the_servers(tmp_path):
    assert problem("s3://bucket/model", 1) == ""
    assert problem(str(tmp_path / "elsewhere"), 1) == ""


def test_a_name_that_only_looks_like_a_number_is_no_version(tmp_path):
    a_version(tmp_path, "+-5", "saved_model.pb")
    a_version(tmp_path, "1_0", "saved_model.pb")
    assert problem(str(tmp_path), 10).endswith("it holds no version")


def test_an_upload_whose_variables_are_on_their_way_is_told(tmp_path):
    folder = a_version(tmp_path, "1", "saved_model.pb")
    (folder / "variables").mkdir()
    (folder / "variables" / "variables.data-00000-of-00002").write_bytes(b"x")
    assert problem(str(tmp_path), 1).endswith("lacks 1 of the 2 files of its variables; is the upload complete?")
