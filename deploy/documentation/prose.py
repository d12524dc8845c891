"""`make docs`: check the language of what people read, by proselint and by the glossary in CONTRIBUTING.md.

Runs in the environment of requirements/docs.txt. Code, links' addresses and generated parts are left out. Prints
`file:line: what is wrong` and ends with exit status 1 where there is anything.
"""

import re
import sys
from pathlib import Path
from typing import Final

from proselint.checks import __register__ as checks
from proselint.config import DEFAULT
from proselint.registry import CheckRegistry
from proselint.registry.checks import Check
from proselint.registry.checks.types import PreferredForms
from proselint.tools import LintFile

ROOT: Final = Path(__file__).resolve().parents[2]
READ: Final = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/**/*.md", ".github/**/*.md")
OFF: Final = {
    # Curly quotes and typographic signs: the pages are read as plain text too.
    "typography": False,
    "lexical_illusions": False,
    # Straight English words that it takes for jargon or clichés, and that are terms here.
    "misc.phrasal_adjectives": False,
}
HIDDEN: Final = re.compile(
    r"^<!-- (?:[Pp]rinted|[Gg]enerated) by .*?(?:^<!-- -->$|\Z)"  # what a command wrote
    r"|^ *```.*?^ *```$"
    r"|<!--.*?-->"
    r"|`[^`\n]*(?:\n[^`\n]+)?`"
    r"|\]\([^)]*\)"
    r"|https?://\S+",
    flags=re.MULTILINE | re.DOTALL,
)
GLOSSARY: Final = re.compile(r"^\| ([^|`]+) \| ([^|]+) \|$", flags=re.MULTILINE)


def main() -> None:
    """Check every page."""
    registry = CheckRegistry()
    registry.register_many(checks)
    registry.register(glossary())
    config = {**DEFAULT, "checks": {**OFF, "glossary": True, **DEFAULT["checks"], **OFF}}
    config["checks"] = dict(sorted(config["checks"].items(), key=lambda item: -item[0].count(".")))
    found = 0
    for path in sorted({path for pattern in READ for path in ROOT.glob(pattern)}):
        for result in LintFile(path, prose(path.read_text())).lint(config):
            found += 1
            # proselint puts a line break before the text.
            line = result.pos[0] - 1
            message = " ".join(result.check_result.message.split())
            print(f"{path.relative_to(ROOT)}:{line}: {message} ({result.check_result.check_path})")
    if found:
        sys.exit(1)


def glossary() -> Check:
    """The check of the words in the table of CONTRIBUTING.md below `## Language`."""
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("\n## Language\n")[2].partition("\n## ")[0]
    words = {
        re.sub(r"\\? ", r"\\s+", re.escape(word.strip())): instead.strip()
        for avoided, instead in GLOSSARY.findall(section)
        for word in avoided.split(";")
        if avoided != "instead of"
    }
    return Check(
        check_type=PreferredForms(items=words),
        path="glossary.terms",
        message="The glossary says '{}' instead of '{}'.",
    )


def prose(text: str) -> str:
    """The text with all that no linter of language should read blanked out; lines stay where they are."""
    text = re.sub(r"(?s)(?<=\n## Language\n).*?(?=\n## |\Z)", lambda match: "\n" * match[0].count("\n"), text)
    return HIDDEN.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


if __name__ == "__main__":
    main()
