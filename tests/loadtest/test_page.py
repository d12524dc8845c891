"""docs/how-to/load-test.md's words are true: its scenario can be read, and it names what there is."""

import re
from pathlib import Path

from loadtest import scenario
from loadtest.kinds import find_kind

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "load-test.md").read_text()


def test_its_scenario_can_be_read(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    path = tmp_path / "friday.yaml"
    path.write_text(text)
    assert set(scenario.read(str(path)).stages[0].thresholds) == set(scenario.THRESHOLDS)


def test_it_names_the_scenarios_and_kinds() -> None:
    assert sorted(re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.MULTILINE)) == scenario.names()
    (kinds,) = re.findall(r"^Kinds: (.*?)\. All but", PAGE, flags=re.MULTILINE | re.DOTALL)
    for name in re.findall(r"`([^`]+)`", kinds):
        find_kind(name)
    for kind, _ in scenario.read("smoke").mix:
        assert f"`{kind.name.partition(' x ')[0]}`" in kinds
