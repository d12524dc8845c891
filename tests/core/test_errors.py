"""The error tree: one class a code, documented where it is drawn."""

from fashion_mnist import errors
from fashion_mnist.errors import FashionMNISTError, InputError


def _subclasses(root: type[FashionMNISTError]) -> list[type[FashionMNISTError]]:
    return [root] + [below for child in root.__subclasses__() for below in _subclasses(child)]


TREE = [error for error in _subclasses(FashionMNISTError) if error.__module__ == errors.__name__]


def test_no_two_errors_share_a_code() -> None:
    assert len({error.code for error in TREE}) == len(TREE)


def test_the_tree_is_drawn_as_it_is() -> None:
    assert errors.__doc__
    drawn = [line.split() for line in errors.__doc__.splitlines() if line.startswith(("├", "│", "└", "FashionMNIST"))]
    rows = {(name, status, code) for *_, name, status, code in (words[:5] for words in map(_from_name, drawn))}
    assert rows == {(error.__name__, str(error.status), error.code) for error in TREE}


def _from_name(words: list[str]) -> list[str]:
    return [word for word in words if not set(word) & set("├│└─")][:3]


def test_what_a_client_did_wrong_is_a_4xx() -> None:
    assert all(400 <= error.status < 500 for error in _subclasses(InputError))
