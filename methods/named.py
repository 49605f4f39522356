"""Defenses under names of their own: one of the others, with other values or with options of its training.

Nothing here computes anything. What `bench.defense.named` makes of a defense has its own name in recipes' rules, in
records and in tables.
"""

from __future__ import annotations

from bench.defense import named
from methods.akd import AKD
from methods.sat import SAT
from methods.trades import TRADES

_KD_SWA = {"robust_weight": 0.6, "clean_weight": 0.1, "temperature": 2.0}
KD_SWA = named(
    AKD,
    "KD+SWA",
    source="Chen et al. 2021, ICLR",
    differs="with other weights, T = 2, and the mean of the student's weights at the ends of the epochs from 56 on",
    variants={"paper": _KD_SWA, "official": {**_KD_SWA, "attack_in_train_mode": True, "cross_entropies": True}},
    training={"average": {"kind": "swa", "from_epoch": 56}},
    horizon=200,
)
SAT_AWP = named(
    SAT,
    "SAT-AWP",
    source="Wu et al. 2020, arXiv:2004.05884",
    differs="with adversarial weight perturbation, gamma = 0.01",
    variants={"paper": {}, "official": {"attack_in_train_mode": True, "further_forwards": True}},
    training={"awp": {"gamma": 0.01, "from_epoch": 1}},
    horizon=200,
)
SAT_WA = named(
    SAT,
    "SAT-WA",
    source="FastAT Benchmark 2026, arXiv:2604.22853",
    differs="with the moving average of the student's weights, decay 0.9995",
    variants={"paper": {}, "official": {}},
    training={"average": {"kind": "ema", "decay": 0.9995}},
    horizon=100,
)
TRADES_AWP = named(
    TRADES,
    "TRADES-AWP",
    source="Wu et al. 2020, arXiv:2004.05884",
    differs="with adversarial weight perturbation, gamma = 0.005, from epoch 10 on",
    variants={"paper": {}, "official": {"repeat_clean_forward": True, "adversarial_first": True}},
    training={"awp": {"gamma": 0.005, "from_epoch": 10}},
    horizon=200,
)
