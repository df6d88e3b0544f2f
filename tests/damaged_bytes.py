"""Bytes for fuzzing: almost right, or anything at all."""

from __future__ import annotations

from hypothesis import strategies as st


def fuzzed(valid: list[bytes]) -> st.SearchStrategy[bytes]:
    """Valid bytes with a few of them changed, cut or repeated; and anything at all."""

    @st.composite
    def damaged(draw: st.DrawFn) -> bytes:
        payload = bytearray(draw(st.sampled_from(valid)))
        for _ in range(draw(st.integers(1, 4))):
            at = draw(st.integers(0, len(payload)))
            payload[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=4))
        return bytes(payload)

    return damaged() | st.binary(max_size=200)
