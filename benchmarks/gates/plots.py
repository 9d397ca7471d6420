"""The two pictures of the page, as SVG of the same bytes for the same figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from benchmarks.gates.report import mean_of, rate_of
from benchmarks.gates.running import Results
from benchmarks.gates.tables import errors, late

INDIGO, GREY, INK = "#4f46e5", "#8a8f98", "#1f2430"
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "headgate",  # or every drawing gets other names inside
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "text.color": INK,
    "axes.labelcolor": INK,
}
MARKERS = "osDv^<>PX"


def draw_all(results: Mapping[str, Mapping[str, Results]], folder: Path) -> dict[str, str]:
    """Draws what the results are there for; returns table key -> file name."""
    made = {}
    with plt.rc_context(STYLE):
        if errors.COMPARISON.key in results:
            made[errors.COMPARISON.key] = _delay_against_alarms(
                results[errors.COMPARISON.key], folder / "delay-and-false-rollbacks.svg"
            )
        if late.LATE.key in results:
            made[late.LATE.key] = _delay_over_age(
                results[late.LATE.key]["bursts"], folder / "delay-over-age.svg"
            )
    return made


def _delay_against_alarms(results: Mapping[str, Results], path: Path) -> str:
    figure, both = plt.subplots(1, 2, figsize=(9, 4.2), sharey=True)
    for axes, cell, title in zip(
        both, ("A/A", "incident"), ("nothing changes", "nothing changes, one shared incident"), strict=True
    ):
        axes.axvline(0.05, color=INK, linewidth=0.8, linestyle=":")
        for marker, name in zip(MARKERS, errors.RULES, strict=True):
            own = name in (errors.OURS, errors.SINGLE)
            false, false_error = rate_of(results[cell][name])
            minutes, error = mean_of(results["x3"][name], 60)
            axes.errorbar(
                false,
                minutes,
                xerr=false_error,
                yerr=error,
                marker=marker,
                color=INDIGO if own else GREY,
                markerfacecolor="white" if name == errors.SINGLE else None,
                linestyle="none",
                label=name,
            )
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("share of such releases rolled back (dotted: .05)")
        axes.set_xlim(-0.04, 1.04)
        axes.set_yscale("log")
        axes.set_yticks([2, 5, 10, 20, 60], ["2", "5", "10", "20", "60"])
        axes.minorticks_off()
    both[0].set_ylabel("mean minutes to roll back errors x3 (60 = never)")
    figure.legend(
        *both[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=8
    )
    figure.tight_layout(rect=(0, 0.16, 1, 1))
    return _save(figure, path)


def _delay_over_age(of: Results, path: Path) -> str:
    figure, axes = plt.subplots(figsize=(7, 3.8))
    ages = late.ages(of)
    looks = {late.OURS: (INDIGO, "-"), late.SINGLE: (INDIGO, ":"), late.NAIVE: (GREY, "--")}
    for name, (colour, line) in looks.items():
        for ratio, marker in ((10.0, "o"), (3.0, "s")):
            points = [mean_of(late.delays(of, minutes, ratio, name)) for minutes in ages]
            axes.errorbar(
                range(len(ages)),
                [middle for middle, _ in points],
                yerr=[error for _, error in points],
                color=colour,
                linestyle=line,
                marker=marker,
                markersize=4,
                label=f"{name}, errors x{ratio:g}",
            )
    axes.set_xticks(
        range(len(ages)),
        [late.age_text(minutes).removeprefix("after ").removeprefix("at the ") for minutes in ages],
    )
    axes.set_yscale("log")
    axes.set_yticks([10, 30, 100, 300, 900], ["10", "30", "100", "300", "900"])
    axes.minorticks_off()
    axes.set_xlabel("healthy time before the burst")
    axes.set_ylabel("mean seconds to roll back")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    return _save(figure, path)


def _save(figure: Figure, path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    # matplotlib leaves blanks at the ends of lines
    path.write_text(
        "\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n", encoding="utf-8"
    )
    return path.name
