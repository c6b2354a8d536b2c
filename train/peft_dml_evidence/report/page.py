# SPDX-License-Identifier: Apache-2.0
"""docs/results.md and docs/results/summary.json from the cells' JSON files in train/results."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from peft_dml_evidence import catalog
from peft_dml_evidence.cells import STANDARD
from peft_dml_evidence.report import baseline_comparison as against
from peft_dml_evidence.report import gaps, sections
from peft_dml_evidence.report import headlines as says
from peft_dml_evidence.report import plots as drawing
from peft_dml_evidence.report.markdown import MISSING, table
from peft_dml_evidence.report.results import CONFIGS, Results, load
from peft_dml_evidence.report.sections import bundles_of, bundles_table
from peft_dml_evidence.report.summary import GAP_KEYS, fullest, summary_of
from peft_dml_evidence.report.why import why

SUMMARY = "summary.json"
PUBLISHED = ", nuScenes val |"
UNSEEN = "\0"  #: Begins the title of a section without any figure
MOST_ROWS = 6  #: Of an open table that stands behind a plot or a claim
ALWAYS_OPEN = 20  #: Rows of an open table that stands alone

INTRO = """# Results

Made by `peft-dml-train report` from the JSON files in `train/results`; no table is typed by hand, and what was not
run says so. Scores are nuscenes-devkit's own (`detection_cvpr_2019`), on scenes that no training saw.

## What holds
"""
HOW = """## How this was measured

± is the standard deviation over seeds. Every comparison uses the seeds that both sides have, seed by seed; brackets
hold its 95 % interval: a bootstrap over seeds and scenes in pairs, Student's over seeds where a cell has no figures by
scene. A claim holds where the whole interval does, is missed where none of it does, and is undecided otherwise; one
seed decides nothing. Recipe `near` begins with the network of `models/base` at the commit of each cell, which has no
seed; recipe `fresh` with its encoders alone, frozen, so that parts and fusions can be replaced and all begin alike
(trained much shorter, it finds less); recipe `one_town` with the same encoders and a base trained behind them, for each
seed, on one town with one rig in clear air, so that there are gaps to close. How every cell is trained and tested:
`train/peft_dml_evidence/catalog.py`. Cells of averaging are older than a repair of the cameras' cached features; with
it the proposed network had the same mAP (.365, one seed).

**What can be compared.** Figures on simulated scenes compare with one another, not with published ones on real
nuScenes: other scenes, other annotation, a much smaller network. What carries over is the shape, such as the share of
NDS that is kept without LiDAR; published figures stand on this page for that alone. Commands for real data, and the
figures to hold against the paper's: [On real nuScenes](nuscenes.md).

Two cells that anyone can redo from seeds and `models/base`, each in under ten minutes on two idle cores: the command
simulates its scenes, runs the cell and says whether its NDS lies within the stored interval. The last one runs all:

```bash
CELLS=fog_none train/recipes/redo.sh
CELLS=fog_peft_all train/recipes/redo.sh
DATA=DATA PROFILE=quick train/recipes/evidence.sh
```
"""
BUNDLES = (
    "The recipe of the experiments in the size of `train/configs/demo.yaml`, trained longer and on all training "
    "scenes; more in the model cards, `models/*/MODEL_CARD.md`."
)
WORDS = {
    "multicorrupt": (
        "RA is NDS under a corruption over clean NDS; RRA the sum of NDS over severities against the zero-filled "
        "baseline's, less 1. MultiCorrupt leaves the radar alone; the second column adds all four kinds of radar noise "
        "at once, at the same severity. It is what the target is held against, the harshest reading. The milder one, "
        "each kind of radar noise as a type of its own, is the mean of fourteen."
    ),
    "ranks": "The target is the mean of clear air, fog=50, rain=25 and snow=2.5: what the second stage trains for.",
    "zero_shot": (
        "The encoders were pretrained with every class; in the adaptation, which starts fresh behind them, frames that "
        "hold the class had no data of the modality. AP of the class by that modality alone."
    ),
    "retrieval": (
        "An object's embedding from one modality looks for its nearest neighbour among those of another one: is it "
        "the same object; is the nearest other object of its class?"
    ),
    "gaps": (
        "Share closed: (PEFT − not adapted) / (full fine-tuning − not adapted), on shared seeds and scenes; wanted are "
        ".95 with all scenes and 1 with eight. Where full fine-tuning gains nothing there is no gap to close. The same "
        "steps for every way and number of scenes, each way at the best rate that was tried for it on other scenes of "
        "fog (recipe `one_town`) or all at full fine-tuning's (`near`); norms of the encoders keep the base's "
        "statistics, without which full fine-tuning lost .02 more (batches of two)."
    ),
    "ablations": (
        "The change is that of the mean of the four figures, seed by seed. A component earns its place where the whole "
        "interval of the change is below zero; within .005 of zero there is no difference; one seed decides nothing."
    ),
    "baselines": "The same data, encoders, steps and head; only fusion, dropout and losses differ, as named.",
    "cost": (
        "ONNX Runtime on one thread, median of 20 keyframes through the vehicle's detector; CPU seconds are the proxy "
        "for energy. Operations count two for a multiply-add."
    ),
    "odometry": (
        "Sweeps are moved by IMU and GNSS where odometry is lost, and not at all where one of the two is lost as well. "
        "A use of IMU and GNSS shows in `lost_odometry` against `lost_odometry:imu+gnss`."
    ),
    "late": (
        "The content is that of the keyframe before, half a second old. Delayed: true stamps, the gate knows its "
        "age. Frozen: it bears the stamps of now."
    ),
}


def _looks(results: Results, name: str, shown: tuple[str, ...] | None = None) -> list[str]:
    cell = next(c for c in catalog.robustness() if c.name == name)
    return sections.looks(results, cell, shown or cell.subsets)


def _origin(results: Results) -> list[str]:
    """Return where the figures come from."""
    records = [r for entries in results.records.values() for r in entries]
    data = {r["data"]["hash"]: r["data"] for r in records}
    commits = sorted({r["commit"][:9] for r in records})
    lines = []
    for d in data.values():
        kind = f"simulated, seed {d['seed']}" if d["simulated"] else "as given"
        lines.append(
            f"- data `{d['folder']}` ({kind}; {d['scenes']} scenes, {d['keyframes']} keyframes; hash {d['hash']})"
        )
    hours = sum(map(_cpu_s, records)) / 3600
    lines += _settings(records)
    lines.append(
        f"- {len(records)} runs, {hours:.1f} CPU hours, code {', '.join(commits)}" if records else "- no runs yet"
    )
    counts = [f"{command} {done} of {planned}" for command, (done, planned) in results.progress().items()]
    return [*lines, f"- finished: {', '.join(counts)}", "", *_cells(records)]


def _cells(records: list[dict[str, Any]]) -> list[str]:
    """Return every run with the commit that it was made at, folded."""
    rows = [
        [f"{r['command']} {r['cell']}", str(r["seed"]), f"`{r['commit'][:9]}`", f"{_cpu_s(r):.0f}", r["finished"][:10]]
        for r in sorted(records, key=lambda r: (r["command"], r["cell"], r["seed"]))
    ]
    head = ("cell", "seed", "commit", "CPU s", "finished")
    return ["<details markdown>", f"<summary>Each of the {len(rows)} runs, with its commit</summary>", "",
            *table(head, rows), "</details>", ""] if rows else []  # fmt: skip


def _cpu_s(entry: dict[str, Any]) -> float:
    """Return CPU seconds of a run with the training of its second stage, which it may have found done."""
    trained = entry.get("training", {}).get("adapted", {}).get("cpu_s", 0.0)
    measured = entry.get("measuring", {}).get("cpu_s")
    return float(entry["cpu_s"] if measured is None else trained + measured)


def _settings(records: list[dict[str, Any]]) -> list[str]:
    """Return how long was trained and on how much was scored, where the results say so."""
    lines = []
    for name, words in (
        ("training_scenes_at_most", "training scenes at most"),
        ("frames_at_most", "keyframes scored at most"),
    ):
        found = sorted({r[name] for r in records if r.get(name)})
        lines += [f"- {words}: {', '.join(map(str, found))}"] if found else []
    for stage, words in (("base", "first"), ("adapted", "second")):
        steps = sorted({r["steps"][stage] for r in records if r.get("steps", {}).get(stage)})
        lines += [f"- steps of the {words} stage: {', '.join(map(str, steps))}"] if steps else []
    return lines


def _plot(results: Results, name: str) -> list[str]:
    if not drawing.drawable(results, name):
        return []
    return [f"![{drawing.PLOTS[name][1]}](images/{drawing.file_name(results, name)})", ""]


def _ran(row: str) -> bool:
    """Return True when a row of a table holds a figure."""
    return any(cell.strip("* ") not in {MISSING, "-", ""} for cell in row.strip("|").split("|")[1:])


def _section(
    results: Results, title: str, body: list[str], plot: str = "", words: str = "", headline: str = ""
) -> list[str]:
    """Return claim, plot and figures; tables behind a plot or a claim are folded, what was not run is one line."""
    rows = [line for line, below in pairwise([*body, ""]) if line.startswith("| ") and not below.startswith("|--")]
    unknown = [row for row in rows if not _ran(row)]
    rows = [row for row in rows if row not in unknown]
    if all(PUBLISHED in row for row in rows):
        return [UNSEEN + title]
    body = [line for line in body if line not in unknown]
    names = "; ".join(row.split(" | ")[0].strip("|* ") for row in unknown)
    body += [f"Not run: {names}.", ""] if unknown else []
    claim = [f"**{headline}**", ""] if headline else []
    text = [WORDS[words], ""] if words else []
    drawn = _plot(results, plot) if plot else []
    if len(rows) > (MOST_ROWS if drawn or claim else ALWAYS_OPEN):
        body = ["<details markdown>", f"<summary>The figures, {len(rows)} rows</summary>", "", *body, "</details>", ""]
    return [f"### {title}", "", *claim, *drawn, *text, *body]


def chapter(results: Results) -> list[str]:
    """Return all sections of one recipe."""
    r = results

    def look(name: str, shown: tuple[str, ...] | None = None) -> list[str]:
        return _looks(r, name, shown)

    lines = [
        f"## Recipe `{r.config}`",
        "",
        *_origin(r),
        *(["### Why targets are missed", "", *reasons] if (reasons := why(r)) else []),
        *_section(r, "Gaps closed by adapting", gaps.closing(r), "gaps", "gaps", gaps.headline(r)),
        *_section(r, "What adapting forgets, and costs", gaps.losing(r)),
        *_section(r, "Sensors added one by one", sections.modalities(r), headline=says.modalities(r)),
        "### Compared with published systems",
        "",
        *sections.published_dropout(r),
        *_section(r, "All 31 subsets of sensors", sections.subsets(r), "subsets", headline=says.subsets(r)),
        *_section(r, "Other fusions, specialists", sections.baselines(r), "baselines", "baselines", says.baselines(r)),
        *_section(r, "The baselines, corrupted likewise", against.corrupted(r), headline=against.headline(r)),
        *_section(r, "The baselines in weather", against.weather(r)),
        *_section(r, "Weather on all sensors", look("weather", STANDARD), "weather", headline=says.looks(r, "weather")),
        *_section(r, "MultiCorrupt", sections.multicorrupt(r), "multicorrupt", "multicorrupt", says.multicorrupt(r)),
        *_section(r, "One camera or radar lost", look("one_lost"), headline=says.looks(r, "one_lost")),
        *_section(r, "Fewer LiDAR beams", look("beams"), headline=says.looks(r, "beams")),
        *_section(r, "Narrow LiDAR", look("field_of_view"), headline=says.looks(r, "field_of_view")),
        *_section(r, "Frozen and delayed", look("late"), words="late", headline=says.looks(r, "late")),
        *_section(r, "Odometry lost, at 8 m/s and more", look("odometry"), words="odometry"),
        *_section(r, "What is trained", sections.ranks(r), "ranks", "ranks", says.ranks(r)),
        *_section(r, "Components", sections.ablations(r), "ablations", "ablations", says.ablations(r)),
        *_section(r, "Weights of the losses", sections.swept(r)),
        *_section(r, "Zero-shot", sections.zero_shot(r), "zero_shot", "zero_shot", says.zero_shot(r)),
        *_section(r, "One space for all sensors", sections.retrieval(r), "embeddings", "retrieval", says.retrieval(r)),
        *_section(r, "Cost", sections.cost(r), "cost", "cost", says.cost(r)),
    ]
    unseen = [line.removeprefix(UNSEEN) for line in lines if line.startswith(UNSEEN)]
    seen = [line for line in lines if not line.startswith(UNSEEN)]
    missing = ["### Not run", "", f"With this recipe nothing is known yet of: {'; '.join(unseen)}.", ""]
    return [*seen, *(missing if unseen else [])]


def render(found: list[Results], bundles: dict[str, dict[str, Any]] | None = None) -> str:
    """Return the whole page, of the results of all recipes and the metrics of the shipped bundles by name."""
    # Without any result the page still lists what there is to run.
    chapters = found or [Results(CONFIGS[-1], {})]
    lines = [*sections.verdicts(chapters), *HOW.splitlines(), ""]
    lines += [line for results in chapters for line in chapter(results)]
    if bundles:
        lines += ["", "## The shipped bundles", "", BUNDLES, "", *bundles_table(bundles)]
    return INTRO + "\n" + "\n".join(lines).rstrip() + "\n"


def render_summary(found: list[Results]) -> str:
    """Return the text of summary.json: of the fullest recipe, and of others what it lacks, named under `from`."""
    summary, origin = summary_of(first := fullest(found)), dict[str, str]()
    for other in (results for results in found if results is not first):
        theirs = summary_of(other)
        for key in GAP_KEYS:  # another base has other gaps
            by_gap = {f"{other.config}.{gap}": value for gap, value in (theirs.pop(key) or {}).items()}
            summary[key] = (summary[key] or {}) | by_gap or None
        more = {k: v for k, v in theirs.items() if summary[k] is None and v is not None}
        summary, origin = summary | more, origin | dict.fromkeys(more, other.config)
    return json.dumps(summary | {"from": origin}, indent=1) + "\n"


def write_report(results: Path, page: Path, *, bundles: Path | None = None, plots: bool = True) -> list[Path]:
    """Write the page, the key figures in `results/summary.json` next to it, and the plots; return what was written.

    Args:
        results: Folder with the cells' results.
        page: Markdown file; plots go to `images/` next to it.
        bundles: Folder of shipped bundles.
        plots: Draw them too.
    """
    key_figures = page.parent / "results" / SUMMARY
    found = load(results)
    for folder in (page.parent, key_figures.parent):
        folder.mkdir(parents=True, exist_ok=True)
    page.write_text(render(found, bundles_of(bundles) if bundles else None), encoding="utf-8")
    key_figures.write_text(render_summary(found), encoding="utf-8")
    drawn = [path for r in found for path in drawing.save(r, page.parent / "images")] if plots else []
    return [page, key_figures, *drawn]
