"""What each method's own code trains with: `recipe: official`, whatever the preset says.

Rice et al. 2020 (robust_overfitting), Zhang et al. 2019 (TRADES), Wang et al. 2020 (MART, wide
ResNet, its last commit, 99b19ea; an older one has 76 epochs and weight decay 2e-4), Wu et al. 2020
(AWP). The epochs of the last three count from 1, the milestones here from 0.
"""

_COMMON = {"epochs": 200, "batch_size": 128, "lr": 0.1, "schedule": "step", "momentum": 0.9,
           "weight_decay": 5e-4, "eps": 8 / 255, "step_size": 2 / 255, "steps": 10, "beta": 6.0}
_RICE = {**_COMMON, "milestones": (0.5, 0.75), "attack_mode": "train", "normalise": True,
         "swa_start": 0.5}  # the first drop, as everywhere
_TRADES = {**_COMMON, "epochs": 76, "milestones": (74 / 76,), "eps": 0.031, "step_size": 0.007}
OFFICIAL = {
    "at": _RICE,
    "at-awp": {**_RICE, "awp_gamma": 0.01},
    "trades": {**_TRADES, "weight_decay": 2e-4},
    "mart": {**_TRADES, "epochs": 90, "milestones": (74 / 90, 89 / 90), "weight_decay": 7e-4},
    "trades-awp": {**_COMMON, "milestones": (99 / 200, 149 / 200), "awp_gamma": 0.005,
                   "awp_start_epoch": 9},
}
