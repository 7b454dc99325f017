"""YAML as people write it by hand: what YAML would silently read as something else is refused."""

import re
from typing import Any

import yaml

from cpnas_cli.errors import UsageError

# YAML 1.1 reads the first as octal, the second to the base 60
_OCTAL = re.compile(r"[-+]?0[0-7_]+")
_SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


class _Loader(yaml.SafeLoader):
    """Without aliases: a few lines of them can stand for more values than a memory holds."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event: Any = self.get_event()
            raise _Alias(f"*{event.anchor} in line {event.start_mark.line + 1} stands for another value")
        return super().compose_node(parent, index)


class _Alias(ValueError):
    pass


def read_yaml(text: str, *, origin: str, key: str = "") -> Any:
    """What the text holds.

    Args:
      origin: of the text, for messages: a file's name. key: the setting that the text is the value of, if it is one.

    Raises:
      UsageError: an alias, a key that is given twice, or a number that YAML reads as another one.
      yaml.YAMLError, ValueError: it is no YAML, or holds no value of Python (a date that does not exist).
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_surprises(node, origin, key)
        return loader.construct_document(node)
    except _Alias as error:
        raise UsageError(f"{origin}: {error}; write the value itself there") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    finally:
        loader.dispose()


def _refuse_surprises(node: yaml.Node, origin: str, key: str) -> None:
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            name, line = str(key_node.value), key_node.start_mark.line + 1
            full_name = f"{key}.{name}" if key else name
            if name in lines:
                where = f"lines {lines[name]} and {line}" if line != lines[name] else f"line {line}"
                raise UsageError(f"{origin}: {full_name} is given twice, in {where}; leave one of them")
            lines[name] = line
            _refuse_surprises(value_node, origin, full_name)
    elif isinstance(node, yaml.SequenceNode):
        for inner in node.value:
            _refuse_surprises(inner, origin, key)
    elif node.tag in _NUMBERS:
        text, named = str(node.value), f"{key}: " if key else ""
        if _OCTAL.fullmatch(text):
            meant = int(text.replace("_", ""), base=10)
            raise UsageError(
                f"{origin}: {named}a number that begins with 0 is octal in YAML, got {text}; write {meant}, "
                f"or '{text}' for a text"
            )
        if _SEXAGESIMAL.fullmatch(text):
            raise UsageError(
                f"{origin}: {named}YAML reads {text} to the base 60; write a plain number, or '{text}' for a text"
            )
