"""The README's words are true: its snippets run, and its figures are those of their source."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fashion_mnist.model_store import model_card
from tests.support.command import ServeCommand

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
URL = "http://127.0.0.1:8080/predictions/fashion_mnist"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_the_curl_call_gives_the_answer_that_is_shown(in_front: ServeCommand) -> None:
    ((command, answer),) = [block.removeprefix("$ ").strip().split("\n", 1) for block in blocks("console")]
    done = subprocess.run(
        command.replace(URL, in_front.url).replace("curl", "curl -s"),
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    shown, found = json.loads(answer)["predictions"][0], json.loads(done.stdout)["predictions"][0]
    assert shown["label"] == found["label"]
    # Other processors round otherwise in the last digits.
    assert shown["probabilities"] == pytest.approx(found["probabilities"], abs=1e-5)


def test_the_python_call_runs(in_front: ServeCommand) -> None:
    (program,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", program.replace(URL, in_front.url)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == "['Sneaker', 'Coat']\n"


def test_the_accuracy_is_the_cards(model_store: Path) -> None:
    assert f"{model_card(model_store)['evaluation']['accuracy']:.2%} of the test set" in README.replace("\n", " ")


def test_the_speed_is_the_benchmarks() -> None:
    measured = (ROOT / "docs" / "explanation" / "benchmarks.md").read_text()
    ratios = re.findall(r"(\d+\.\d+) times", README)
    assert ratios
    for ratio in ratios:
        assert re.search(rf"\| {float(ratio):g} x \|", measured), f"{ratio} is not in docs/explanation/benchmarks.md"


def test_the_table_of_other_servers_is_the_benchmarks() -> None:
    measured = (ROOT / "benchmarks" / "PEERS.md").read_text()
    (p99,) = re.findall(r"^\| p99, ms \|(.*)$", README, flags=re.MULTILINE)
    rates = re.findall(r"^\| (?:requests/s|as documented, PNG) \|(.*)$", README, flags=re.MULTILINE)
    assert len(rates) == 2
    for rate in re.findall(r"\d[\d,]*\d", " ".join(rates)):
        assert f"| {rate} |" in measured, f"{rate} is not in benchmarks/PEERS.md"
    rounded = {f"{float(figure):.1f}" for figure in re.findall(r"\| (\d+\.\d\d) ", measured)}
    assert set(re.findall(r"\d+\.\d", p99)) <= rounded


def test_commands_that_it_names_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^|`)make ([a-z]+)", README, flags=re.MULTILINE):
        assert f"\n{target}:" in makefile
