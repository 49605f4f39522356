"""Contents of files as nobody means them: odd values, values in odd places, damaged bytes."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from hypothesis import strategies as st


def nested(depth: int) -> Any:
    inner: Any = 0
    for _ in range(depth):
        inner = [inner]
    return inner


ODD = st.sampled_from(
    [
        *(None, True, -1, 0, 1, 2**70, 10**400, -1e308, 1e-320, float("nan"), float("inf"), "", "1", "\ud800"),
        *("../../x", "/", "a\nb\u202e\x1b[31m", "$\\frac{", "=1+1", "x" * 5000, [], {}, [[]], {"": None}, [None] * 50),
        *(nested(150), {"a\nb": 1}, "2026-13-45", "0x", "~", "*", "<script>"),
    ]
).map(deepcopy)
ANY = ODD | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def places(content: Any, depth: int = 6) -> list[tuple[Any, Any]]:
    """Every (container, key) in nested lists and mappings, down to a depth."""
    keys = list(content) if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else []
    return [place for key in keys if depth for place in ((content, key), *places(content[key], depth - 1))]


@st.composite
def changed(draw: st.DrawFn, content: Any) -> Any:
    """The content with one to three places replaced, taken out or added."""
    content = deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        there = places(content)
        if not there:
            break
        container, key = draw(st.sampled_from(there))
        match draw(st.integers(0, 3)):
            case 0:
                del container[key]
            case 1 if isinstance(container, dict):
                container[draw(st.text(max_size=5) | st.sampled_from(["a\nb", "id", "paper"]))] = draw(ANY)
            case _:
                container[key] = draw(ANY)
    return content


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The bytes cut short, with some of them replaced, doubled, or something else altogether."""
    match draw(st.integers(0, 5)):
        case 0:
            return draw(st.binary(max_size=200) | st.sampled_from([b"[" * 9000, b'{"a":' * 9000, b"- " * 9000]))
        case 1:
            return content[: draw(st.integers(0, len(content)))]
        case 2:
            return content + draw(st.binary(max_size=50))
    mutable = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        # Half of the places near the ends, where headers and footers are.
        at = draw(st.integers(0, len(content) - 1) | st.integers(0, min(300, len(content) - 1)))
        at = len(content) - 1 - at if draw(st.booleans()) else at
        part = draw(st.binary(min_size=1, max_size=4))
        mutable[at : at + len(part)] = part
    return bytes(mutable)
