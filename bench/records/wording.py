"""How readers are told the conditions of a record."""

from __future__ import annotations


def protocol_text(conduct: str) -> str:
    """A record's conduct for readers: `official protocol, worst case`."""
    protocol, *rest = conduct.split(", ")
    return ", ".join([f"{protocol} protocol", *rest])


def eps_text(eps: float) -> str:
    """A bound as papers write it, `8/255`; as a number where it is no whole number of grey levels."""
    levels = eps * 255
    return f"{round(levels)}/255" if abs(levels - round(levels)) < 1e-6 else f"{eps:.6g}"


def attack_text(name: str, labels: dict[str, str]) -> str:
    """A result's attack for readers, by the labels of attacks: `PGD-SAT`, `CW∞, transferred`."""
    own = name.removeprefix("transfer:")
    return labels.get(own, own) + (", transferred" if own != name else "")
