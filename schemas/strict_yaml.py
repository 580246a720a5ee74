"""YAML read strictly: every scalar stays the text it is, every value keeps its line, and nothing can be made to grow.

The events of libyaml's parser are composed here rather than by PyYAML's `compose()`, so that every limit holds while the text is still
being read, and no depth of the text can be a depth of the parser's own recursion. JSON is read too, being YAML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from errors import ControlFileInvalid, Problem

MAX_DEPTH = 20
MAX_ALIASES = 100
MAX_VALUES = 100_000  # all values of the document, those that aliases repeat counted each time

# PyYAML's wheels have libyaml for every common platform; its pure Python parser gives the same events, twenty times slower.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CONTROL_CHARACTER = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_SURROGATES = re.compile(r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_STRING_TAGS = frozenset({None, "!", "tag:yaml.org,2002:str"})


class Plain(str):
    """A scalar that stood without quotes: the only kind that may be taken for a number or a truth value."""

    __slots__ = ()


@dataclass(slots=True)
class Lines:
    """The lines of one value and of what it contains."""

    line: int  # 1-based
    children: dict[str | int, Lines] = field(default_factory=dict)

    def of(self, path: Sequence[str | int]) -> int:
        """Return the line of what stands at the path, or of the nearest thing around it that is there."""
        here = self
        for step in path:
            below = here.children.get(step)
            if below is None:
                break
            here = below
        return here.line


@dataclass(slots=True)
class _Node:
    """One composed value: plain data (dict, list, str, Plain or None), its lines, and how large it is."""

    value: Any
    lines: Lines
    size: int = 1
    height: int = 0


class _Stopped(Exception):
    """The text cannot be read on; the reason is among the problems."""


def load(text: str) -> tuple[Any, Lines, list[Problem]]:
    """Read one YAML document: its data, its lines, and the problems that do not keep it from being read (duplicate keys, tags, aliases).

    Maps become dicts with text keys, sequences lists, scalars text (Plain where they stood unquoted), plain nulls None.
    Raises ControlFileInvalid where there is no document to speak of: broken YAML, one beyond the limits, an empty one.
    """
    wrong = _CONTROL_CHARACTER.search(text)
    if wrong:
        line = text.count("\n", 0, wrong.start()) + 1
        raise ControlFileInvalid([Problem(f"the character U+{ord(wrong.group()):04X} is not allowed", line=line)])
    composer = _Composer(_with_characters_for_surrogates(text))
    try:
        node = composer.document()
    except _Stopped:
        raise ControlFileInvalid(composer.problems) from None
    except yaml.YAMLError as error:
        raise ControlFileInvalid([*composer.problems, _syntax_problem(error)]) from error
    return node.value, node.lines, composer.problems


def _with_characters_for_surrogates(text: str) -> str:
    """JSON writes characters beyond U+FFFF as two escapes, which YAML does not know; in a JSON document put the character itself."""
    if not text.lstrip().startswith(("{", "[")) or not _SURROGATES.search(text):
        return text

    def character(found: re.Match[str]) -> str:
        return found[1] + chr(0x10000 + ((int(found[2], 16) & 0x3FF) << 10) + (int(found[3], 16) & 0x3FF))

    return _SURROGATES.sub(character, text)


def _syntax_problem(error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
    context = getattr(error, "context", None)
    return Problem(f"not valid YAML: {f'{context}, ' if context else ''}{problem}", line=mark.line + 1 if mark else None)


class _Composer:
    """Makes one document of the parser's events, within the limits."""

    def __init__(self, text: str) -> None:
        self.problems: list[Problem] = []
        self._events: Iterator[Any] = yaml.parse(text, Loader=_LOADER)
        self._anchors: dict[str, _Node] = {}
        self._open: set[str] = set()
        self._aliases = self._values = 0

    def document(self) -> _Node:
        """Compose the one document of the text."""
        next(self._events)
        if isinstance(next(self._events), yaml.StreamEndEvent):
            self._stop("the control file is empty", None)
        node = self._node(next(self._events), 1)
        next(self._events)
        following = next(self._events)
        if not isinstance(following, yaml.StreamEndEvent):
            self._say("only one document is allowed", following)
        return node

    def _say(self, message: str, event: Any) -> None:
        self.problems.append(Problem(message, line=event.start_mark.line + 1 if event else None))

    def _stop(self, message: str, event: Any) -> NoReturn:
        self._say(message, event)
        raise _Stopped

    def _count(self, values: int, event: Any) -> None:
        self._values += values
        if self._values > MAX_VALUES:
            self._stop(f"more than {MAX_VALUES} values, what aliases repeat included", event)

    def _node(self, event: Any, depth: int) -> _Node:
        if depth > MAX_DEPTH:
            self._stop(f"nested deeper than {MAX_DEPTH} levels", event)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        self._count(1, event)
        if event.tag not in _STRING_TAGS or (event.tag and not isinstance(event, yaml.ScalarEvent)):
            self._say(f"the tag {event.tag.replace('tag:yaml.org,2002:', '!!')[:80]} is not allowed", event)
        if event.anchor:
            self._open.add(event.anchor)
        node = self._content(event, depth)
        if event.anchor:
            self._open.discard(event.anchor)
            self._anchors[event.anchor] = node
        return node

    def _content(self, event: Any, depth: int) -> _Node:
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(event, depth)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(event, depth)
        lines = Lines(event.start_mark.line + 1)
        if not event.implicit[0]:
            return _Node(event.value, lines)
        return _Node(None if event.value in _NULLS else Plain(event.value), lines)

    def _alias(self, event: Any, depth: int) -> _Node:
        self._aliases += 1
        if self._aliases > MAX_ALIASES:
            self._stop(f"more than {MAX_ALIASES} aliases", event)
        node = self._anchors.get(event.anchor)
        if node is None or event.anchor in self._open:
            self._say(f"the alias *{event.anchor[:80]} refers to nothing before it", event)
            return _Node(None, Lines(event.start_mark.line + 1))
        self._count(node.size, event)
        if depth + node.height > MAX_DEPTH:
            self._stop(f"nested deeper than {MAX_DEPTH} levels", event)
        return _Node(node.value, Lines(event.start_mark.line + 1, node.lines.children), node.size, node.height)

    def _sequence(self, event: Any, depth: int) -> _Node:
        node = _Node([], Lines(event.start_mark.line + 1))
        while not isinstance(item := next(self._events), yaml.SequenceEndEvent):
            child = self._node(item, depth + 1)
            node.lines.children[len(node.value)] = child.lines
            node.value.append(child.value)
            self._grow(node, child)
        return node

    def _mapping(self, event: Any, depth: int) -> _Node:
        node = _Node({}, Lines(event.start_mark.line + 1))
        while not isinstance(first := next(self._events), yaml.MappingEndEvent):
            key = self._key(first, depth)
            child = self._node(next(self._events), depth + 1)
            self._grow(node, child)
            if key is None:
                continue
            if key in node.value:
                self._say(f"the key {key[:80]!r} stands here twice, first at line {node.lines.children[key].line}", first)
                continue
            node.value[key] = child.value
            # A fault of an entry is shown at its key, where also an entry without a value stands.
            node.lines.children[key] = Lines(first.start_mark.line + 1, child.lines.children)
        return node

    def _key(self, event: Any, depth: int) -> str | None:
        """Return a key as the text it is: `on`, `1` and `null` name things too."""
        node = self._node(event, depth + 1)
        if isinstance(node.value, (dict, list)):
            self._say("a key must be text", event)
            return None
        if isinstance(event, yaml.ScalarEvent):
            return str(event.value)
        return "" if node.value is None else str(node.value)

    @staticmethod
    def _grow(node: _Node, child: _Node) -> None:
        node.size += child.size
        node.height = max(node.height, child.height + 1)
