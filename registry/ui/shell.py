"""What the registry puts around every page: its places in the sidebar and its search hits."""

from __future__ import annotations

from django.urls import reverse

from controlplane.web import shell
from controlplane.web.first_rows import best_named
from registry import selectors
from registry.models import Model


def register() -> None:
    """Called once when the app starts."""
    shell.add_nav_item(shell.NavItem("models", "package", "Models", "models", "m", 3, group=1))
    shell.add_nav_item(
        shell.NavItem("golden-sets", "list-checks", "Golden", "golden-sets", "s", 4, group=1, more="sets")
    )
    shell.add_search_source(find_models)
    shell.add_search_source(find_golden_sets)


def find_models(words: str, limit: int) -> shell.Hits:
    """Models whose name contains the words."""
    best, in_all = best_named(Model.objects.filter(gone_at=None), words, limit=limit)
    hits = [
        shell.Hit("Model", "package", model.name, model.description[:80], reverse("model", args=[model.name]))
        for model in best
    ]
    return shell.Hits("model", hits, in_all)


def find_golden_sets(words: str, limit: int) -> shell.Hits:
    """Golden sets whose name contains the words, newest revision each."""
    best, in_all = best_named(selectors.newest_golden_sets(), words, limit=limit)
    hits = [
        shell.Hit(
            "Golden set",
            "list-checks",
            one.label,
            f"{one.size} prompts",
            reverse("golden-set", args=[one.name]),
        )
        for one in best
    ]
    return shell.Hits("golden set", hits, in_all)
