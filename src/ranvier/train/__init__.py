"""Recipes, the trainer on Lightning Fabric, losses, schedules, checkpoints and evaluation.

Names are loaded on first use: recipes need pydantic and PyYAML, training needs Lightning Fabric.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ranvier.train.assemble import Splits, build_model, load_splits
    from ranvier.train.diagnose import NonFiniteError
    from ranvier.train.distill import FineGrainedDistillation
    from ranvier.train.evaluation import Evaluation, evaluate
    from ranvier.train.files import RunError
    from ranvier.train.interrupt import Interrupted
    from ranvier.train.journal import read_journal
    from ranvier.train.loss import cross_entropy, tet
    from ranvier.train.next_token import backward_in_chunks, next_token_loss
    from ranvier.train.pretrained import WeightCheck, evaluate_pretrained, pack_weights
    from ranvier.train.recipe import Recipe, parse_recipe
    from ranvier.train.recipe_file import list_recipes, load_recipe
    from ranvier.train.run import RunResult, load_run, tokenizer_of
    from ranvier.train.schedule import learning_rate
    from ranvier.train.text_evaluation import TextEvaluation, evaluate_run_text, evaluate_text
    from ranvier.train.trainer import fit

_HOMES = {
    "assemble": ("Splits", "build_model", "load_splits"),
    "diagnose": ("NonFiniteError",),
    "distill": ("FineGrainedDistillation",),
    "evaluation": ("Evaluation", "FineGrainedDistillation", "evaluate"),
    "files": ("RunError",),
    "interrupt": ("Interrupted",),
    "journal": ("read_journal",),
    "loss": ("cross_entropy", "tet"),
    "pretrained": ("WeightCheck", "evaluate_pretrained", "pack_weights"),
    "recipe": ("Recipe", "parse_recipe"),
    "recipe_file": ("list_recipes", "load_recipe"),
    "next_token": ("backward_in_chunks", "next_token_loss"),
    "run": ("RunResult", "load_run", "tokenizer_of"),
    "schedule": ("learning_rate",),
    "text_evaluation": ("TextEvaluation", "evaluate_run_text", "evaluate_text"),
    "trainer": ("fit",),
}

__all__ = [
    "Evaluation", "FineGrainedDistillation", "Interrupted", "NonFiniteError", "Recipe", "RunError", "RunResult",
    "Splits", "TextEvaluation", "WeightCheck", "backward_in_chunks", "build_model", "cross_entropy", "evaluate",
    "evaluate_pretrained", "evaluate_run_text", "evaluate_text", "fit", "learning_rate", "list_recipes",
    "load_recipe", "load_run", "load_splits", "next_token_loss", "pack_weights", "parse_recipe", "read_journal",
    "tet", "tokenizer_of",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "transfer":
        return import_module("ranvier.train.transfer")
    for module, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(f"ranvier.train.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'ranvier.train' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
