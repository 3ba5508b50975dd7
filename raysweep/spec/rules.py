"""What a value must be: pydantic decides, and its answer becomes one sentence that names value, rule and fix.

Pydantic is imported when something is checked: every process of a trial imports this package, and checks nothing.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Any, Literal

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import ErrorDetails

# Pydantic's words for the rules that flags, knobs and tasks have, in ours; its own for any other.
SENTENCES = {
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_type": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "string_type": "must be text",
    "finite_number": "must be a finite number",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "literal_error": "must be {expected}",
}


@functools.cache
def rule(kind: Any, choices: tuple[str, ...] | None = None, **limits: Any) -> TypeAdapter[Any]:
    """A rule for values.

    Args:
        kind: their type; text is parsed.
        choices: all values that are allowed.
        **limits: of numbers, in pydantic's words: `ge`, `gt`, `le`, `lt`.
    """
    from pydantic import ConfigDict, Field, TypeAdapter

    if choices:
        kind = Literal[choices]
    if limits:
        kind = Annotated[kind, Field(**limits)]
    return TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False, arbitrary_types_allowed=True))


def check(what: str, value: Any, allowed: TypeAdapter[Any]) -> tuple[Any, str | None]:
    """The value in its type, or what is wrong with it.

    Args:
        what: the flag or name that has it.
        value: as it was given.
        allowed: see `rule`.
    """
    from pydantic import ValidationError

    plain = value.item() if hasattr(value, "item") else value  # pydantic knows no numbers of numpy
    try:
        return allowed.validate_python(plain), None
    except ValidationError as error:
        return None, f"`{what} {value}`: {_sentence(error.errors()[0])}"


def _sentence(error: ErrorDetails) -> str:
    sentence, context = SENTENCES.get(error["type"]), error.get("ctx", {})
    whole = {key: int(limit) for key, limit in context.items() if isinstance(limit, float) and limit == int(limit)}
    return sentence.format(**context | whole) if sentence else error["msg"]
