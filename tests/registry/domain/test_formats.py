from __future__ import annotations

import pytest

from registry.domain.formats import FileClass, FormatKind, findings_of, refusal_of, refused_files

WEIGHTS = FileClass("model.safetensors", FormatKind.WEIGHTS)
PICKLE = FileClass("deep/optimizer.pt", FormatKind.PICKLE, "is a pickle")


def test_refused_files__data__none() -> None:
    assert (
        refused_files([WEIGHTS, FileClass("config.json", FormatKind.CONFIGURATION, finding="asks for code")])
        == ()
    )


def test_refused_files__what_is_not_data__named() -> None:
    assert refused_files([WEIGHTS, PICKLE]) == (PICKLE,)


@pytest.mark.parametrize("allowed", ["deep/optimizer.pt", "optimizer.pt"])
def test_refused_files__allowed_by_name_or_path__passed(allowed: str) -> None:
    assert refused_files([PICKLE], allowed={allowed}) == ()


@pytest.mark.parametrize("allowed", ["other/optimizer.pt", "deep", "optimizer", ".pt", ""])
def test_refused_files__something_else_allowed__refused(allowed: str) -> None:
    assert refused_files([PICKLE], allowed={allowed}) == (PICKLE,)


def test_refusal__none_refused__empty() -> None:
    assert refusal_of(()) == ""


def test_refusal__names_file_reason_and_both_ways_out() -> None:
    sentence = refusal_of((PICKLE,))
    assert "deep/optimizer.pt is a pickle." in sentence
    assert "Save weights as safetensors" in sentence
    assert "HEADGATE_ALLOWED_PICKLE_FILES" in sentence


def test_refusal__mlflows_pickled_python_model__says_what_to_log_instead() -> None:
    sentence = refusal_of((FileClass("python_model.pkl", FormatKind.PICKLE, "is a pickle"),))
    assert "log the model's own files" in sentence


def test_refusal__many_files__five_shown_and_the_rest_counted() -> None:
    files = [FileClass(f"{number:02}.py", FormatKind.CODE, "is Python source") for number in range(40)]
    sentence = refusal_of(files)
    assert "04.py is Python source; and 35 more." in sentence
    assert "05.py" not in sentence


def test_refusal__path_that_is_long_and_odd__short_and_printable() -> None:
    sentence = refusal_of((FileClass("\n\ud800" + "a" * 5000 + ".py", FormatKind.CODE, "is Python source"),))
    assert len(sentence) < 600
    assert sentence.isprintable()


def test_findings__remote_code__named_whether_served_or_not() -> None:
    config = FileClass("config.json", FormatKind.CONFIGURATION, finding="asks for code of its own")
    assert findings_of([config], served=False) == ("config.json asks for code of its own.",)


def test_findings__file_the_operator_allowed__named_once_it_may_be_served() -> None:
    assert findings_of([PICKLE], served=False) == ()
    assert findings_of([PICKLE], served=True) == (
        "deep/optimizer.pt is a pickle. It may be served because the operator allowed it.",
    )


def test_file_class__through_json__the_same() -> None:
    assert FileClass.from_json(PICKLE.to_json()) == PICKLE
