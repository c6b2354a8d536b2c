# SPDX-License-Identifier: Apache-2.0
"""The tables of the results page, one function a claim."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft_dml_evidence import catalog
from peft_dml_evidence.baseline_cells import specialists
from peft_dml_evidence.cells import EVERY_SUBSET, MAIN_SUBSETS, STANDARD, Cell
from peft_dml_evidence.component_cells import ablate, weights
from peft_dml_evidence.report.markdown import MISSING, number, percent, table
from peft_dml_evidence.report.published import DROPOUT, RESISTANCE, ROUTES
from peft_dml_evidence.report.results import Figure, Results, compare
from peft_dml_evidence.report.summary import ALL, RETRIEVALS, ClaimTarget, targets
from peft_dml_evidence.statistics import HOLDS, MISSED, UNDECIDED, Interval, difference, joined, paired
from peft_dml_evidence.zero_shot import ZERO_SHOT_CLASSES
from peft_dml_ros.core.bundle import MANIFEST, load_bundle
from peft_dml_ros.core.classes import DETECTING, MODALITIES
from peft_dml_tools.sim.corruptions import MULTICORRUPT, RADAR_NOISE

FOURTEEN = (*MULTICORRUPT, *RADAR_NOISE)
#: In the order of the page: what is loudest comes first
VERDICTS = {MISSED: "missed", UNDECIDED: "undecided", HOLDS: "held"}
LEAST_CHANGE = 0.005  #: NDS: a change whose whole interval is within it is none


def verdicts(recipes: Sequence[Results]) -> list[str]:
    """Return what was compared with any recipe, the misses first, and what was not run with any."""
    claims = [(target, recipe.config) for recipe in recipes for target in targets(recipe)]
    ran = [(target, config) for target, config in claims if target.found is not None]
    ran.sort(key=lambda claim: list(VERDICTS).index(_word(claim[0])))
    counts = Counter(_word(target) for target, _ in ran)
    rows = [[t.claim, f"`{config}`", f"≥ {t.least:g}", t.measured, t.made_of, t.verdict] for t, config in ran]
    unknown = dict.fromkeys(t.claim for t, _ in claims if t.claim not in {known.claim for known, _ in ran})
    said = ", ".join(f"{counts[word]} {words}" for word, words in VERDICTS.items())
    return [
        f"**{len(ran)} comparisons: {said}.**",
        "",
        *table(("claim", "recipe", "target", "measured", "from", ""), rows),
        f"Not run with any recipe: {'; '.join(unknown) or 'none'}.",
        "",
    ]


def _word(target: ClaimTarget) -> str:
    """Return the verdict's first word; without one of these it is undecided."""
    return next((word for word in VERDICTS if target.verdict.startswith(word)), UNDECIDED)


def modalities(results: Results) -> list[str]:
    """Return NDS of each sensor alone and of ever more sensors: of one network, and of one trained with each set."""
    rows = []
    added = ["+".join(MODALITIES[: n + 1]) for n in range(len(MODALITIES))]
    for name in dict.fromkeys((*MODALITIES, *added)):
        figures = [results.score("robustness", "subsets", subset=name, key=key) for key in ("map", "nds")]
        last = "subsets" if name == ALL else f"added_{name.split('+')[-1]}"
        command = "robustness" if name == ALL else "baselines"
        trained = number(results.score(command, last, subset=name)) if name in added else "-"
        rows.append([name.replace("+", " + "), *(number(f) for f in figures), trained])
    return table(("sensors", "mAP", "NDS", "NDS, trained with these alone"), rows)


def subsets(results: Results) -> list[str]:
    """Return all 31, best first."""
    full = results.score("robustness", "subsets", subset=ALL)
    found = {name: results.score("robustness", "subsets", subset=name) for name in EVERY_SUBSET}
    order = sorted(EVERY_SUBSET, key=lambda n: -(figure.value if (figure := found[n]) else 0.0))
    rows = [[name.replace("+", " + "), number(found[name]), percent(found[name], full)] for name in order]
    return table(("sensors", "NDS", "kept"), rows)


def published_dropout(results: Results) -> list[str]:
    """Compare PEFT-DML with published systems; not the same data."""
    full, no_lidar, no_camera = (
        results.score("robustness", "subsets", subset=s) for s in (ALL, "camera+radar+imu+gnss", "lidar+radar+imu+gnss")
    )
    rows = [["PEFT-DML, here", number(full), percent(no_lidar, full), percent(no_camera, full), "this page"]]
    for name, whole, without_lidar, without_camera, source in DROPOUT:
        kept = (f"{part / whole:.1%}" for part in (without_lidar, without_camera))
        rows.append([f"{name}, nuScenes val", f"{whole / 100:.3f}", *kept, source])
    lines = table(("system", "NDS", "kept without LiDAR", "kept without cameras", "source"), rows)
    return [*lines, *table(("system on other data", "what it does", "as reported", "what compares"), ROUTES)]


def looks(results: Results, cell: Cell, shown: Sequence[str]) -> list[str]:
    """Return NDS by look, one column a subset, and what is kept of all sensors in clear air."""
    clear = results.score(cell.command, cell.name)
    rows = []
    for look in cell.looks:
        found = [results.score(cell.command, cell.name, look, subset) for subset in shown]
        rows.append([f"`{look}`", *(number(f) for f in found), percent(found[0], clear)])
    return table(("frames", *(f"NDS, {s}" for s in shown), f"kept, {shown[0]}"), rows)


def multicorrupt(results: Results) -> list[str]:
    """Return RA and RRA by type, and their means."""
    rows = []
    for name in MULTICORRUPT:
        relative = results.relative_resilience(name)
        rows.append(
            [
                f"`{name}`",
                number(results.resistance(name, radar=False)),
                number(results.resistance(name, radar=True)),
                MISSING if relative is None else f"{relative:+.1%}",
            ]
        )
    relatives = [results.relative_resilience(name) for name in MULTICORRUPT]
    known = [r for r in relatives if r is not None]
    mean = f"**{sum(known) / len(known):+.1%}**" if len(known) == len(relatives) else MISSING
    clean, noisy = (results.mean_resistance(radar=radar) for radar in (False, True))
    rows.append(["**mean**", f"**{number(clean)}**", f"**{number(noisy)}**", mean])
    rows += [[f"`{name}`", number(results.resistance(name, radar=False)), "-", "-"] for name in RADAR_NOISE]
    rows.append(["mean of fourteen", number(results.mean_resistance(radar=False, names=FOURTEEN)), "-", "-"])
    rows += [[f"{name}, nuScenes val", f"{value:.3f}", "-", "-"] for name, value in RESISTANCE]
    return table(("type", "RA", "RA, radar noise on top", "RRA against zero-filled"), rows)


def ranks(results: Results) -> list[str]:
    """Return what the second stage changes, what it costs and what it gains."""
    full = results.target("full")
    rows = []
    for cell in catalog.ranks():
        target, clear = results.target(cell.name), results.score("ranks", cell.name)
        row = [cell.about, number(clear), number(target), percent(target, full)]
        entries = results.of("ranks", cell.name)
        adapted = entries[0]["training"].get("adapted") if entries else None
        if adapted:
            parameters = adapted["parameters"]
            row += [
                f"{parameters['share']:.1%}",
                f"{adapted['cpu_s'] / 60:.1f}",
                f"{adapted['peak_rss_mb']:.0f}",
                f"{adapted['file_bytes'] / 1e6:.2f}",
            ]
        else:
            row += ["-" if entries else MISSING] * 4
        rows.append(row)
    head = ("second stage", "NDS, clear", "NDS, target", "of full", "trained", "CPU min", "peak MB", "file MB")
    return table(head, rows)


def ablations(results: Results) -> list[str]:
    """Return NDS without each component, and whether it earns its place."""
    changes, noise = ablation_changes(results)
    rows = []
    for cell in ablate():
        words = ["-", "-"]
        if cell.name in changes:
            change = changes[cell.name]
            words = [MISSING if change is None else change.text(), verdict_of(change, noise)]
        rows.append([cell.about, *(number(f) for f in _ablated(results, cell.name)), *words])
    return table(("", *(f"NDS, {s}" for s in MAIN_SUBSETS), "NDS, target weather", "change", "its place"), rows)


def _ablated(results: Results, name: str) -> list[Figure | None]:
    clear = [results.score("ablate", name, "clear", s) for s in MAIN_SUBSETS]
    return [*clear, results.target(name, command="ablate")]


def ablation_changes(results: Results) -> tuple[dict[str, Interval | None], float]:
    """Return the mean change of the four figures without each component, seed by seed, and what counts as none."""
    proposed = _ablated(results, "complete")
    changes: dict[str, Interval | None] = {}
    for cell in ablate()[1:]:
        without = _ablated(results, cell.name)
        known = all(proposed) and all(without)
        samples = [joined(f.sample for f in figures if f) for figures in (without, proposed)]
        changes[cell.name] = paired(difference, *samples) if known else None
    return changes, LEAST_CHANGE


def swept(results: Results) -> list[str]:
    """Return NDS with a loss that weighs less or more, and the change."""
    proposed = results.target("complete", command="ablate")
    rows = []
    for cell in weights():
        found = results.target(cell.name, command="weights")
        change = compare(difference, found, proposed)
        rows.append([f"`{cell.about}`", number(found), MISSING if change is None else change.text()])
    return table(("weights", "NDS, target weather", "change"), rows)


def verdict_of(change: Interval | None, noise: float) -> str:
    """Return whether a component earns its place, as the interval of the change says."""
    return MISSING if change is None else change.place(noise)


def zero_shot(results: Results) -> list[str]:
    """Return AP of the held-out pairs by modality."""
    rows = []
    for m in DETECTING:
        for name in ZERO_SHOT_CLASSES:
            found = (results.ap(m, name, suffix) for suffix in ("", "_without_metric_loss", "_together"))
            rows.append([f"{m}, {name}", *(number(f) for f in found)])
    return table(("pair", "never together", "without metric loss", "trained together"), rows)


def retrieval(results: Results) -> list[str]:
    """Return Recall@1 between modalities."""
    cells = [results.of(*cell) for cell in RETRIEVALS.values()]
    ran = [entries[0]["retrieval"]["recall_at_1"] for entries in cells if entries]
    rows = []
    for pair in (f"{a}->{b}" for a in DETECTING for b in DETECTING if a != b):
        found = [entries[0]["retrieval"]["recall_at_1"][pair] if entries else None for entries in cells]
        row = [f"{f['instance']:.3f}, {f['class']:.3f}" if f else MISSING for f in found]
        chance = ran[0][pair] if ran else None
        row.append(f"{chance['chance_instance']:.3f}, {chance['chance_class']:.3f}" if chance else MISSING)
        rows.append([pair.replace("->", " → "), *row])
    return table(("itself, its class", *RETRIEVALS, "by chance"), rows)


def baselines(results: Results) -> list[str]:
    """Return NDS by subset of PEFT-DML and the fusion of other systems, and the specialists."""
    rows = [["PEFT-DML", *(number(results.proposed(s)) for s in STANDARD)]]
    for cell, about in (("zero_filled", "Zero-filled concatenation"), ("averaging", "Averaging")):
        rows.append([about, *(number(results.score("baselines", cell, subset=s)) for s in STANDARD)])
    lines = table(("NDS", *STANDARD), rows)
    alone_rows = []
    for specialist in specialists():
        alone = results.score("baselines", specialist.name, subset=specialist.subsets[0])
        proposed = results.score("robustness", "subsets", subset=specialist.subsets[0])
        alone_rows.append([specialist.about, number(alone), number(proposed), percent(proposed, alone)])
    return [*lines, *table(("", "specialist", "PEFT-DML with these sensors", "kept"), alone_rows)]


def cost(results: Results) -> list[str]:
    """Return what each subset costs, and the fusion against plainer ones."""
    rows = []
    for name in EVERY_SUBSET:
        entries = results.of("cost", "subsets")
        found = entries[0]["cost"]["subsets"].get(name) if entries else None
        rows.append([name.replace("+", " + "), *(_costs(found) if found else [MISSING] * 4)])
    for cell, words in (("subsets", "attention and gate"), ("concatenate", "concatenation"), ("average", "averaging")):
        found = fusion_cost(results, cell)
        rows.append([f"fusion and head alone: {words}", *(_costs(found) if found else [MISSING] * 4)])
    head = ("sensors", "parameters, M", "operations, G", "latency p50 / p95, ms", "CPU s a frame")
    return table(head, rows)


def fusion_cost(results: Results, cell: str) -> dict[str, Any] | None:
    """Return what fusion and head alone cost in a cell of `cost`; none where that was not measured."""
    entries = results.of("cost", cell)
    return entries[0]["cost"].get("fusion") if entries else None


def _costs(found: dict[str, Any]) -> list[str]:
    latency = f"{found['p50_ms']:.1f} / {found['p95_ms']:.1f}"
    cpu = f"{found['cpu_s']:.4f}" if "cpu_s" in found else "-"
    return [f"{found['parameters'] / 1e6:.2f}", f"{found['flops'] / 1e9:.2f}", latency, cpu]


def bundles_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Return metrics by name of the bundles in a folder that were evaluated with `--record`."""
    found = (load_bundle(path.parent).manifest for path in sorted(folder.glob(f"*/{MANIFEST}")))
    return {
        m.name: {**m.metrics, "share": m.trained_share, "stages": m.provenance["stages"]}
        for m in found
        if m.metrics.get("subsets")
    }


def bundles_table(bundles: dict[str, dict[str, Any]]) -> list[str]:
    """Return one row a bundle."""
    rows = []
    for name, metrics in bundles.items():
        whole, no_lidar, no_camera = (
            Figure.single(metrics["subsets"][s]["nds"]) for s in ("all", "no lidar", "no camera")
        )
        kept = (percent(no_lidar, whole), percent(no_camera, whole))
        steps = str(sum(stage["steps"] for stage in metrics["stages"].values()))
        rows.append([f"`{name}`", steps, number(metrics["map"]), number(whole), *kept, f"{metrics['share']:.1%}"])
    return table(("bundle", "steps", "mAP", "NDS", "kept without LiDAR", "kept without cameras", "trained"), rows)
