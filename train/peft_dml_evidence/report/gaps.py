# SPDX-License-Identifier: Apache-2.0
"""The share of each gap that adapting closes, what it forgets on the source, and what it costs."""

from matplotlib.axes import Axes

from peft_dml_evidence.cells import Mode
from peft_dml_evidence.gap_cells import FEW_SCENES, FORGETTING, GAPS, TRIED, WORDS, DomainGap
from peft_dml_evidence.report.markdown import MISSING, number, table
from peft_dml_evidence.report.results import Figure, Results, compare
from peft_dml_evidence.statistics import HOLDS, MISSED, UNDECIDED, Interval, difference

#: Share of the gap that PEFT closes, against full fine-tuning: with all scenes, and with `FEW`
LEAST_ALL, LEAST_FEW = 0.95, 1.0
#: Column heads; `WORDS` say what each is
SHORT: dict[Mode, str] = {
    "peft": "PEFT",
    "full": "full",
    "head": "head only",
    "partial": "partial",
    "scratch": "scratch",
}
FEW = 8
MOST_FORGOTTEN = 0.01  #: NDS lost on the source


def nds(results: Results, gap: DomainGap, mode: Mode, few: int = 0) -> Figure | None:
    """Return NDS in the target."""
    return results.score("domains", gap.cell(mode, few), gap.look)


def gain(results: Results, gap: DomainGap, mode: Mode, few: int = 0) -> Interval | None:
    """Return what adapting gains in the target, on shared seeds and scenes."""
    return compare(difference, nds(results, gap, mode, few), nds(results, gap, "base"))


def closed(results: Results, gap: DomainGap, few: int = 0, mode: Mode = "peft") -> Interval | None:
    """Return the share of the gap that a mode closes: its gain over that of full fine-tuning."""
    figures = (nds(results, gap, mode, few), nds(results, gap, "full", few), nds(results, gap, "base"))
    return compare(share_closed, *figures)


def share_closed(tuned: float, full: float, before: float) -> float:
    """Return (tuned − before) / (full − before); infinite with the sign of its numerator where full gains nothing."""
    gap = full - before
    return (tuned - before) / gap if gap > 0 else float("inf") if tuned > before else float("-inf")


def forgotten(results: Results, gap: DomainGap, mode: Mode = "peft") -> Interval | None:
    """Return NDS lost on the source by the network that was adapted with all scenes."""
    look = "clear"
    figures = [results.score("domains", gap.on_source(m), look) for m in ("base", mode)]
    return compare(difference, *figures)


def verdict(results: Results, gap: DomainGap, few: int = 0) -> str:
    """Return whether PEFT closes what full fine-tuning closes, as the interval says."""
    whole = gain(results, gap, "full", few)
    if whole is None or (found := closed(results, gap, few)) is None:
        return MISSING
    if whole.verdict(0.0) != HOLDS:
        return (
            "no gap to close: full fine-tuning gains nothing"
            if whole.verdict(0.0) == MISSED
            else "undecided: full fine-tuning may gain nothing"
        )
    return found.verdict(LEAST_FEW if few else LEAST_ALL)


def gap_closed(results: Results) -> dict[str, dict[str, Interval | None]]:
    """Return the share that PEFT closes by gap, with all scenes and with few; only gaps that were run."""
    found = {gap.name: {"all": closed(results, gap), f"s{FEW}": closed(results, gap, FEW)} for gap in GAPS}
    return {name: by for name, by in found.items() if any(by.values())}


def headline(results: Results) -> str:
    """Return the share of each gap that PEFT closes."""
    phrases = []
    for gap in GAPS:
        for few, words in ((0, "all scenes"), (FEW, f"{FEW} scenes")):
            found = closed(results, gap, few)
            if found is not None:
                phrases.append(f"{gap.name} with {words} {found.text(2)} ({verdict(results, gap, few)})")
    return f"Share of the gap that PEFT closes, of full fine-tuning's: {'; '.join(phrases)}." if phrases else ""


def closing(results: Results) -> list[str]:
    """Return NDS by gap, by what is trained and with how many scenes, and the share closed."""
    rows = []
    for gap in GAPS:
        before = nds(results, gap, "base")
        for few in reversed(FEW_SCENES):
            figures = [nds(results, gap, mode, few) for mode in TRIED]
            if not any(figures):
                continue
            share = closed(results, gap, few)
            text = MISSING if share is None else share.text(2)
            cells = [number(before), *(number(f) for f in figures), text, verdict(results, gap, few)]
            rows.append([f"{gap.about}; {few or 'all'} scenes", *cells])
    head = ("gap", WORDS["base"], *(SHORT[mode] for mode in TRIED), "closed by PEFT", "")
    return table(head, rows or [["any", *[MISSING] * (len(TRIED) + 3)]])


def losing(results: Results) -> list[str]:
    """Return NDS gained, what is forgotten on the source, and what each way costs; the first seed's costs."""
    rows = []
    for gap in GAPS:
        for mode in TRIED:
            entries = results.of("domains", gap.cell(mode))
            if not entries or "adapted" not in entries[0].get("training", {}):
                continue
            cost = entries[0]["training"]["adapted"]
            lost = forgotten(results, gap, mode) if mode in FORGETTING else None
            won = gain(results, gap, mode)
            word = MISSING if lost is None else f"{lost.text()}: {_kept(lost)}"
            share = f"{cost['parameters']['share']:.1%}"
            spent = (f"{cost['file_bytes'] / 1e6:.2f}", f"{cost['cpu_s']:.0f}", f"{cost['peak_rss_mb']:.0f}")
            rows.append([gap.name, WORDS[mode], MISSING if won is None else won.text(), word, share, *spent])
    head = ("gap", "trained", "gained in the target", "forgotten on the source", "share", "file MB", "CPU s", "peak MB")
    return table(head, rows or [["any", *[MISSING] * 7]])


def _kept(lost: Interval) -> str:
    """Return the verdict on the most that may be forgotten."""
    if len(lost.by_seed) < 2:
        return UNDECIDED
    return HOLDS if lost.high <= MOST_FORGOTTEN else MISSED if lost.low > MOST_FORGOTTEN else UNDECIDED


def draw(axes: Axes, results: Results) -> None:
    """Draw the gain over the network that is not adapted, by gap and what is trained."""
    names = [gap for gap in GAPS if nds(results, gap, "base")]
    shown = [mode for mode in TRIED if any(gain(results, gap, mode) for gap in names)]
    width = 0.8 / max(1, len(shown))
    for i, mode in enumerate(shown):
        label: str | None = WORDS[mode]
        for place, gap in enumerate(names):
            if found := gain(results, gap, mode):
                at = place + (i - (len(shown) - 1) / 2) * width
                axes.bar(at, found.value, width, color=f"C{i}", label=label)
                label = None  # one entry in the legend for all gaps
                if found.scenes or len(found.by_seed) > 1:
                    error = [[found.value - found.low], [found.high - found.value]]
                    axes.errorbar(at, found.value, error, color="black", capsize=2, lw=1)
    axes.set_xticks(range(len(names)), [gap.name for gap in names])
    axes.set_ylabel("NDS gained in the target")
    axes.axhline(0, color="gray", lw=0.8)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
