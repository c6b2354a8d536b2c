# SPDX-License-Identifier: Apache-2.0
"""The merged report of a fleet run: one self-contained HTML page, and the lines that the terminal shows."""

import base64
from html import escape
from typing import Any, Final

from peft_dml_tools.fleet.detection import folder_of
from peft_dml_tools.fleet.running import DriveOutcome
from peft_dml_tools.fleet.storage import ResultStore

SHOWN_DRIVES: Final = 200  #: Rows of the page's table of drives: those with problems first
SHOWN_PICTURES: Final = 24

STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
.cards { display: flex; flex-wrap: wrap; gap: 1rem; }
.cards div { border: 1px solid var(--line); border-radius: 8px; padding: .5rem 1rem; }
.cards b { display: block; font-size: 1.4rem; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(220px, 1fr)); gap: 1rem; }
.pictures img { width: 100%; border-radius: 6px; }
.failed td:nth-child(2) { color: #d33; font-weight: 600; }
"""


def fleet_page(summary: dict[str, Any], outcomes: list[DriveOutcome], store: ResultStore) -> bytes:
    """Return the HTML page of a fleet run."""
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>",
        f"<title>PEFT-DML fleet report</title><style>{STYLE}</style>",
        f"<h1>{summary['drives']} drives, {summary['driven_s'] / 3600:.2f} h</h1>",
        _cards(summary),
        "<h2>Sensors</h2>",
        _sensors(summary["sensors"]),
        "<h2>Hard frames</h2><p>Frames whose boxes have the least certain scores, over all drives.</p>",
        _table(
            ("drive", "stamp (ns)", "doubt", "without"),
            [(h["drive"], h["stamp_ns"], h["doubt"], h["without"] or "–") for h in summary["hard"]],
        ),
        "<h2>Drives</h2>",
        _drives(outcomes),
        _pictures(outcomes, store),
        "</html>",
    ]
    return "\n".join(parts).encode()


def _cards(summary: dict[str, Any]) -> str:
    speed = summary["driven_s"] / summary["wall_s"] if summary["wall_s"] and summary["done"] else 0.0
    values = {
        "done now": summary["done"],
        "done before": summary["kept"],
        "same content": summary["same"],
        "failed": summary["failed"],
        "cut short": summary["cut_short"],
        "frames": summary["frames"],
        "times real time": f"{speed:.2f} on {summary['cores']} cores",
    }
    return "<div class='cards'>" + "".join(f"<div><b>{v}</b>{k}</div>" for k, v in values.items()) + "</div>"


def _sensors(table: dict[str, dict[str, Any]]) -> str:
    rows = []
    for name, row in sorted(table.items(), key=lambda item: -item[1]["without"]):
        share = 100.0 * row["without"] / max(1, row["frames"])
        reasons = ", ".join(f"{reason} {count}" for reason, count in row["reasons"].items()) or "–"
        worst = ", ".join(f"{drive} {count}" for drive, count in row["worst"]) or "–"
        rows.append((name, f"{share:.1f} %", reasons, worst))
    return _table(("sensor", "frames without it", "reasons", "drives where most"), rows)


def _drives(outcomes: list[DriveOutcome]) -> str:
    order = {"failed": 0, "same": 2}
    ranked = sorted(outcomes, key=lambda o: (order.get(o.state, 1), not o.reason, o.drive.label))
    heads = ("drive", "state", "seconds", "frames", "p95 ms", "mAP", "problem")
    rows = []
    for outcome in ranked[:SHOWN_DRIVES]:
        s = outcome.summary
        accuracy = s.get("accuracy", {}).get("all", {}).get("map")
        figures = (s["seconds"], s["frames"], s["latency_ms"].get("p95", "–")) if s else ("–", "–", "–")
        shown = "–" if accuracy is None else f"{accuracy:.3f}"
        rows.append((outcome.drive.label, outcome.state, *figures, shown, outcome.reason or "–"))
    more = len(outcomes) - SHOWN_DRIVES
    note = f"<p>{more} more drives are in fleet.json.</p>" if more > 0 else ""
    return _table(heads, rows, classes=[row[1] for row in rows]) + note


def _pictures(outcomes: list[DriveOutcome], store: ResultStore) -> str:
    figures = list[str]()
    for outcome in outcomes:
        if len(figures) == SHOWN_PICTURES:
            break
        if outcome.state in {"done", "kept"}:
            folder = f"{folder_of(outcome.drive, outcome.summary['key'])}/thumbnails"
            for name in store.names(folder)[:1]:
                picture = base64.b64encode(store.read(f"{folder}/{name}") or b"").decode()
                words = escape(outcome.drive.name)
                figures.append(
                    f"<figure><img alt='{words} from above' src='data:image/jpeg;base64,{picture}'>"
                    f"<figcaption>{words}</figcaption></figure>"
                )
    return f"<h2>Pictures</h2><div class='pictures'>{''.join(figures)}</div>" if figures else ""


def _table(heads: tuple[str, ...], rows: list[tuple[Any, ...]], classes: list[str] | None = None) -> str:
    def cells(tag: str, values: tuple[Any, ...]) -> str:
        return "".join(f"<{tag}>{escape(str(value))}</{tag}>" for value in values)

    body = "".join(
        f"<tr class='{escape(classes[i]) if classes else ''}'>{cells('td', row)}</tr>" for i, row in enumerate(rows)
    )
    return f"<table><thead><tr>{cells('th', heads)}</tr></thead><tbody>{body}</tbody></table>"
