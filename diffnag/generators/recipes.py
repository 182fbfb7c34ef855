"""The options of the networks that the package ships: what `python -m diffnag.train_score --recipe shipped` trains anew."""

from __future__ import annotations

import json
from typing import Any

from diffnag.errors import UserError
from diffnag.io.files import PRETRAINED

RECIPES = PRETRAINED / "recipes.json"
"""Space -> family -> `training` and `config`, the options that differ from the defaults."""


def shipped_recipe(space: str, family: str) -> dict[str, Any]:
    """`training`, `config` and the place `out` of the file that is shipped for `space`; `UserError` where there is none."""
    recipes = json.loads(RECIPES.read_text())
    if family not in recipes.get(space, {}):
        there = ", ".join(f"{name} ({', '.join(families)})" for name, families in recipes.items())
        raise UserError(f"no network of family {family!r} is shipped for space {space!r}; there are: {there}")
    recipe = recipes[space][family]
    return {"training": {"space": space, **recipe["training"]}, "config": recipe["config"], "out": PRETRAINED / space / f"{family}.safetensors"}
