"""What a value must be: pydantic decides, and its answer becomes one sentence that names value, rule and fix.

Pydantic is imported when something is checked: every process of a trial imports this package, and checks nothing.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

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
    "string_too_short": "must not be empty",
    "bool_type": "must be True or False",
    "bool_parsing": "must be True or False",
    "dict_type": "must be a dictionary",
    "tuple_type": "must be a tuple",
    "list_type": "must be a list",
    "finite_number": "must be a finite number",
    "int_parsing_size": "must be a smaller number",
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
    from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter

    for number, name in ((int, "int_type"), (float, "float_type")):
        if number in (kind, *get_args(kind)):
            kind = Annotated[kind, BeforeValidator(functools.partial(_no_bool, name))]
            break
    if choices:
        kind = Literal[choices]
    if limits:
        kind = Annotated[kind, Field(**limits)]
    return TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False, arbitrary_types_allowed=True))


def _no_bool(error: str, value: Any) -> Any:
    """Pydantic takes True for the number 1."""
    from pydantic_core import PydanticCustomError

    if isinstance(value, bool):
        raise PydanticCustomError(error, "must be a number")
    return value


def check(what: str, value: Any, allowed: TypeAdapter[Any]) -> tuple[Any, str | None]:
    """The value in its type, or what is wrong with it.

    Args:
        what: the flag or name that has it.
        value: as it was given.
        allowed: see `rule`.
    """
    from pydantic import ValidationError

    is_scalar = hasattr(value, "item") and getattr(value, "shape", None) == ()
    plain = value.item() if is_scalar else value  # pydantic knows no numbers of numpy
    try:
        return allowed.validate_python(plain), None
    except ValidationError as error:
        return None, f"`{what} {value}`: {_sentence(error.errors()[0])}"


def _sentence(error: ErrorDetails) -> str:
    sentence, context = SENTENCES.get(error["type"]), error.get("ctx", {})
    whole = {key: int(limit) for key, limit in context.items() if isinstance(limit, float) and limit == int(limit)}
    return sentence.format(**context | whole) if sentence else error["msg"]
