"""How texts for readers are worded."""

from __future__ import annotations

from bench.system.text import defense_label, settings_text


def test_a_defense_is_named_with_its_settings_as_the_command_line_takes_them() -> None:
    assert defense_label("CIARD", {}) == "CIARD"
    assert defense_label("CIARD", {"push": False, "itt": True, "beta": 0.5}) == "CIARD (beta=0.5, itt=true, push=false)"
    assert settings_text({"kind": "cosine", "milestones": [75, 90]}) == "kind=cosine, milestones=[75, 90]"
