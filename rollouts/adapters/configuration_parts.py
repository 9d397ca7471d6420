"""Reads the objects within a configuration: lists, names of Kubernetes, images."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.plain import shown
from rollouts.adapters.configuration import Configuration
from rollouts.domain.images import Image

MOST_ENTRIES = 50
DNS_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
DOTTED = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*"
DNS_NAME = re.compile(rf"(?=.{{1,253}}\Z){DOTTED}")
WORD = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
LABEL_NAME = re.compile(rf"(?:(?=[^/]{{1,253}}/){DOTTED}/)?{WORD}")


class ConfigurationPart(Configuration):
    """An object within a configuration.

    at        its name there ("configuration.profile"): what the names of its fields begin with
    problems  of the whole configuration; what is wrong with this part is added
    """

    def __init__(self, given: object, known: tuple[str, ...], at: str, problems: list[InvalidInput]) -> None:
        self._at = at
        self._all = problems
        super().__init__(given, known)

    def note(self, name: str, message: str, *, fix: str) -> None:
        field = f"{self._at}.{name}" if name else self._at
        self._all.append(InvalidInput(message, field=field, fix=fix))

    def _refuse(self, name: str, wanted: str, fix: str) -> None:
        self.note(name, f"{name} is not {wanted}.", fix=fix)

    def has(self, name: str) -> bool:
        return self._given.get(name) is not None

    def flag(self, name: str, usual: bool) -> bool:
        value = self._given.get(name)
        if value is None or isinstance(value, bool):
            return usual if value is None else value
        self._refuse(name, "true or false", "Write true or false.")
        return usual

    def number(self, name: str, usual: int, *, least: int, most: int) -> int:
        found = self.whole(name, least=least, most=most)
        return usual if found is None else found

    def matching(
        self, name: str, pattern: re.Pattern[str], wanted: str, example: str, *, needed: bool = False
    ) -> str:
        value = self.text(name, needed=needed)
        if value is None:
            return ""
        if pattern.fullmatch(value):
            return value
        self._refuse(name, wanted, f"Write one such as {example}.")
        return ""

    def choice(self, name: str, choices: tuple[str, ...], usual: str | None = None) -> str | None:
        """One of the words; None when it is none of them."""
        value = self._given.get(name)
        if value is None and usual is not None:
            return usual
        if isinstance(value, str) and value in choices:
            return value
        self._refuse(name, f"one of {', '.join(choices)}", "Write one of them.")
        return None

    def texts(self, name: str, fits: Callable[[str], bool], wanted: str, example: str) -> tuple[str, ...]:
        """A list of texts that fit, none twice."""
        found: list[str] = []
        for index, value in enumerate(self._list(name)):
            if isinstance(value, str) and fits(value):
                found.append(value)
            else:
                self._refuse(f"{name}.{index}", wanted, f"Write one such as {example}.")
        return tuple(dict.fromkeys(found))

    def pairs(
        self, name: str, fits: Callable[[str], bool], wanted: str, *, reserved: tuple[str, ...] = ()
    ) -> dict[str, str]:
        """Names of labels with their values, in the order of the names."""
        value = self._given.get(name)
        if value is None:
            return {}
        if not isinstance(value, Mapping) or len(value) > MOST_ENTRIES:
            self._refuse(
                name, f"an object of at most {MOST_ENTRIES} names with texts", 'Write {"NAME": "VALUE"}.'
            )
            return {}
        found: dict[str, str] = {}
        for key, inner in value.items():
            where = f"{name}.{shown(str(key))}"
            if not isinstance(key, str) or not LABEL_NAME.fullmatch(key):
                self.note(
                    where, "It is no name that Kubernetes takes.", fix="Write one such as example.com/team."
                )
            elif key.startswith(reserved) or any(f".{one}" in f".{key}" for one in reserved):
                self.note(
                    where, "Names of this kind are Headgate's or Kubernetes' own.", fix="Choose another name."
                )
            elif not isinstance(inner, str) or not fits(inner):
                self.note(where, f"Its value is not {wanted}.", fix=f"Write {wanted}.")
            else:
                found[key] = inner
        return dict(sorted(found.items()))

    def part(self, name: str, known: tuple[str, ...]) -> ConfigurationPart:
        value = self._given.get(name)
        return ConfigurationPart({} if value is None else value, known, f"{self._at}.{name}", self._all)

    def parts(self, name: str, known: tuple[str, ...]) -> list[ConfigurationPart]:
        return [
            ConfigurationPart(value, known, f"{self._at}.{name}.{index}", self._all)
            for index, value in enumerate(self._list(name))
        ]

    def image(self, name: str, *, needed: bool) -> Image | None:
        value = self.text(name, needed=needed)
        if value is None:
            return None
        try:
            found = Image.parse(value, field=f"{self._at}.{name}")
        except InvalidInput as error:
            self._all.append(error)
            return None
        if not found.digest:
            self.note(
                name,
                f"{name} has no digest: what a tag means can change, and replicas would run different programs.",
                fix="Write REPOSITORY@sha256:DIGEST.",
            )
            return None
        return found

    def _list(self, name: str) -> list[object]:
        value = self._given.get(name)
        if value is None:
            return []
        if isinstance(value, list) and len(value) <= MOST_ENTRIES:
            return value
        self._refuse(name, f"a list of at most {MOST_ENTRIES} entries", "Write a list.")
        return []


def fully(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    """Whether a text matches the pattern from its beginning to its end."""
    return lambda value: pattern.fullmatch(value) is not None
