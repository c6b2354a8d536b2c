# SPDX-License-Identifier: Apache-2.0
"""What each section of the results page says in one line, made of the figures; nothing while a figure is missing."""

from statistics import mean

from peft_dml_evidence import catalog
from peft_dml_evidence.cells import EVERY_SUBSET
from peft_dml_evidence.report.results import Figure, Results, value_of
from peft_dml_evidence.report.sections import FOURTEEN, ablation_changes, fusion_cost, verdict_of
from peft_dml_evidence.report.summary import ALL, RETRIEVALS, class_recall, zero_shot_ap
from peft_dml_evidence.statistics import EARNED, NO_DIFFERENCE, NOT_EARNED, UNDECIDED, ratio
from peft_dml_evidence.zero_shot import ZERO_SHOT_CLASSES
from peft_dml_ros.core.classes import DETECTING
from peft_dml_tools.sim.corruptions import MULTICORRUPT

WELL_KEPT = 0.7


def modalities(results: Results) -> str:
    """Return what each further sensor adds."""
    names = ("lidar", "lidar+camera", "lidar+camera+radar", ALL)
    found = [results.score("robustness", "subsets", subset=name) for name in names]
    if not all(found):
        return ""
    lidar, camera, radar, motion = (f.value for f in found if f)
    return (
        f"LiDAR alone reaches an NDS of {lidar:.3f}; cameras add {camera - lidar:+.3f}, radar {radar - camera:+.3f}, "
        f"IMU and GNSS {motion - radar:+.3f}."
    )


def subsets(results: Results) -> str:
    """Return how many subsets keep most."""
    full = results.score("robustness", "subsets", subset=ALL)
    found = {name: f for name in EVERY_SUBSET if (f := results.score("robustness", "subsets", subset=name))}
    if full is None or len(found) < len(EVERY_SUBSET):
        return ""
    seeing = {name: f for name, f in found.items() if set(name.split("+")) & set(DETECTING)}
    kept = [name for name, f in seeing.items() if f.value >= WELL_KEPT * full.value]
    worst = min(seeing, key=lambda name: seeing[name].value)
    return (
        f"{len(kept)} of the {len(seeing)} subsets that see anything keep {WELL_KEPT:.0%} of NDS; the weakest, "
        f"{worst.replace('+', ' + ')}, {seeing[worst].value / full.value:.0%}; "
        f"IMU and GNSS alone {found['imu+gnss'].value / full.value:.0%}."
    )


def baselines(results: Results) -> str:
    """Return who loses what without LiDAR, and what a specialist gains."""
    parts = []
    for words, cell in (("zero-filled concatenation", "zero_filled"), ("averaging", "averaging")):
        pair = [results.score("baselines", cell, subset=s) for s in ("no lidar", "all")]
        if all(pair):
            parts.append(f"{words} {_share(*pair):.0%}")
    proposed = [results.proposed("no lidar"), results.proposed("all")]
    if not parts or not all(proposed):
        return ""
    return f"Without LiDAR PEFT-DML keeps {_share(*proposed):.0%} of its NDS, {', '.join(parts)}."


def _share(above: Figure | None, below: Figure | None) -> float:
    return value_of(ratio, above, below)


def looks(results: Results, name: str) -> str:
    """Return the hardest of a cell's looks, with all sensors."""
    cell = next(c for c in catalog.robustness() if c.name == name)
    clear = results.score("robustness", name)
    found = {look: f for look in cell.looks[1:] if (f := results.score("robustness", name, look))}
    if clear is None or len(found) < len(cell.looks) - 1:
        return ""
    worst = min(found, key=lambda look: found[look].value)
    average = mean(_share(f, clear) for f in found.values())
    return (
        f"With all sensors {average:.0%} of NDS are kept on average; "
        f"least in `{worst}`, {_share(found[worst], clear):.0%}."
    )


def multicorrupt(results: Results) -> str:
    """Return MRA, and the hardest type."""
    noisy, clean = (results.mean_resistance(radar=radar) for radar in (True, False))
    each = results.mean_resistance(radar=False, names=FOURTEEN)
    if noisy is None or clean is None or each is None:
        return ""
    found = {n: f.value for n in MULTICORRUPT if (f := results.resistance(n, radar=True))}
    worst = min(found, key=lambda n: found[n])
    return (
        f"mRA {clean.value:.3f} as MultiCorrupt has it, {each.value:.3f} with four kinds of radar noise as more types, "
        f"{noisy.value:.3f} with all four on top of each type; hardest is `{worst}`, {found[worst]:.3f}."
    )


def ranks(results: Results) -> str:
    """Return PEFT against full fine-tuning."""
    peft, full = results.target("peft"), results.target("full")
    entries = [results.of("ranks", name) for name in ("peft", "full")]
    if peft is None or full is None:
        return ""
    mine, theirs = (e[0]["training"]["adapted"] for e in entries)
    return (
        f"With {mine['parameters']['share']:.1%} of the parameters PEFT reaches {_share(peft, full):.1%} of full "
        f"fine-tuning's NDS, with a file {theirs['file_bytes'] / mine['file_bytes']:.0f} times smaller, "
        f"{mine['peak_rss_mb'] / theirs['peak_rss_mb']:.0%} of the memory and {mine['cpu_s'] / theirs['cpu_s']:.0%} "
        "of the CPU time."
    )


def ablations(results: Results) -> str:
    """Return which components earn their place."""
    changes, noise = ablation_changes(results)
    verdicts: dict[str, list[str]] = {}
    for name, change in changes.items():
        if change is None:
            return ""
        verdicts.setdefault(verdict_of(change, noise), []).append(name.removeprefix("no_").replace("_", " "))
    groups = (f"{verdict}: {', '.join(verdicts[verdict])}" for verdict in (EARNED, NO_DIFFERENCE, NOT_EARNED, UNDECIDED)
            if verdict in verdicts)  # fmt: skip
    return f"Their place, by the interval of the change without them: {'; '.join(groups)}."


def zero_shot(results: Results) -> str:
    """Return the mean AP of the pairs."""
    found = [zero_shot_ap(results, suffix) for suffix in ("", "_without_metric_loss", "_together")]
    if not all(found):
        return ""
    mine, without, together = (f.value for f in found if f)
    better = sum(
        (a.value if (a := results.ap(m, c)) else 0.0)
        > (b.value if (b := results.ap(m, c, "_without_metric_loss")) else 0.0)
        for m in DETECTING
        for c in ZERO_SHOT_CLASSES
    )
    pairs = len(DETECTING) * len(ZERO_SHOT_CLASSES)
    return (
        f"Mean AP {mine:.3f} with the metric loss, {without:.3f} without, {together:.3f} when trained together; the "
        f"loss helps in {better} of {pairs} pairs."
    )


def retrieval(results: Results) -> str:
    """Return the mean recall over the pairs of modalities."""
    phrases, chance = [], 0.0
    for words, cell in RETRIEVALS.items():
        if (found := class_recall(results, *cell)) is not None:
            phrases.append(f"{found.text(2)} with {words}")
            pairs = results.of(*cell)[0]["retrieval"]["recall_at_1"].values()
            chance = mean(f["chance_class"] for f in pairs)
    if not phrases:
        return ""
    recalls = ", ".join(phrases)
    return f"An object's nearest neighbour in another sensor is of its class: {recalls}, {chance:.2f} by chance."


def cost(results: Results) -> str:
    """Return the cheapest and dearest of the subsets that see, and what the fusion takes."""
    entries = results.of("cost", "subsets")
    if not entries:
        return ""
    found = entries[0]["cost"]["subsets"]
    seeing = {n: f for n, f in found.items() if set(n.split("+")) & set(DETECTING)}
    least, most = (choose(seeing, key=lambda n: seeing[n]["p50_ms"]) for choose in (min, max))
    phrases = (f"{seeing[n]['p50_ms']:.0f} ms ({n.replace('+', ' + ')})" for n in (least, most))
    words, gated, plain = "", fusion_cost(results, "subsets"), fusion_cost(results, "concatenate")
    if gated and plain:
        words = f"; {gated['p50_ms']:.1f} ms of it is attention, gate and head"
        words += f", {plain['p50_ms']:.1f} with plain concatenation"
    return f"From {' to '.join(phrases)} a frame on one thread{words}."
