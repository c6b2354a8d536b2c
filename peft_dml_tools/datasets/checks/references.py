# SPDX-License-Identifier: Apache-2.0
"""REF: tokens lead to records, and chains lead both ways."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from peft_dml_tools.datasets.checks.folder import CheckedFolder
from peft_dml_tools.datasets.checks.model import Violation, rule
from peft_dml_tools.datasets.checks.severity import Severity
from peft_dml_tools.datasets.nuscenes_schema import CHAINED, REFERENCES


@rule(
    "REF001",
    Severity.ERROR,
    "every token refers to a record",
    "the tables do not belong together, or one was cut: take all from one archive, or write them again",
)
def keys_resolve(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield a finding per reference that leads nowhere."""
    for (table, name), target in REFERENCES.items():
        known = folder.tokens(target)
        for row in folder.rows(table):
            value = row[name]
            for token in value if isinstance(value, list) else [value] if value else []:
                if token not in known:
                    yield Violation(f"{table} {row['token']}", f"{name} '{token}' is no record of {target}")


@rule(
    "REF002",
    Severity.ERROR,
    "prev and next lead both ways within one chain",
    "link the records again in the order of their timestamps",
)
def chains_agree(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield a finding per link that does not lead back, and per link into another chain."""
    for table, owner in CHAINED.items():
        known = folder.by_token(table)
        for row in folder.rows(table):
            for forth, back in (("prev", "next"), ("next", "prev")):
                other = known.get(row[forth])
                if other is None:
                    continue
                if other[back] != row["token"]:
                    yield Violation(
                        f"{table} {row['token']}", f"{forth} is {row[forth]}, whose {back} is '{other[back]}'"
                    )
                elif forth == "next" and other[owner] != row[owner]:
                    yield Violation(f"{table} {row['token']}", f"next has another {owner}: '{other[owner]}'")


@rule(
    "REF003",
    Severity.ERROR,
    "scenes and instances name the ends of their chains and count them right",
    "set first, last and number from the records themselves",
)
def ends_fit(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield findings on first_*, last_* and nbr_* of scenes and instances."""
    for table, member, number in (("scene", "sample", "nbr_samples"), ("instance", "annotation", "nbr_annotations")):
        chained = "sample" if table == "scene" else "sample_annotation"
        members = Counter(row[CHAINED[chained]] for row in folder.rows(chained))
        known = folder.by_token(chained)
        for row in folder.rows(table):
            where = f"{table} {row['token']}"
            for end, link in (("first", "prev"), ("last", "next")):
                record = known.get(row[f"{end}_{member}_token"])
                if record is not None and record[link]:
                    yield Violation(where, f"{end}_{member}_token has a {link}, so it is not the {end}")
                if record is not None and record[CHAINED[chained]] != row["token"]:
                    yield Violation(where, f"{end}_{member}_token belongs to {table} {record[CHAINED[chained]]}")
            if members[row["token"]] != row[number]:
                yield Violation(where, f"{number} is {row[number]}, but {members[row['token']]} records refer to it")


@rule(
    "REF004",
    Severity.WARNING,
    "every keyframe has every sensor",
    "copy the missing sensors, or read with --allow-missing; a sensor that broke down is no mistake",
)
def keyframes_complete(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield a finding per scene and set of sensors that its keyframes lack."""
    channels = {row["channel"] for row in folder.rows("sensor")}
    lacking: dict[tuple[str, tuple[str, ...]], int] = defaultdict(int)
    scenes = {row["token"]: row["name"] for row in folder.rows("scene")}
    for sample in folder.rows("sample"):
        keyframes = (row for row in folder.data_of_sample.get(sample["token"], []) if row["is_key_frame"])
        here = {folder.channels.get(row["calibrated_sensor_token"], ("", ""))[0] for row in keyframes}
        if absent := channels - here:
            lacking[scenes.get(sample["scene_token"], "?"), tuple(sorted(absent))] += 1
    for (scene, absent_names), samples in lacking.items():
        yield Violation(f"scene {scene}", f"{samples} keyframe(s) without {', '.join(absent_names)}")


@rule(
    "REF005",
    Severity.ERROR,
    "a keyframe has at most one file per sensor, and every sample has data",
    "unmark the additional keyframes; remove samples without data",
)
def keyframes_single(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield a finding per sample without data, and per sensor that occurs twice in it."""
    for sample in folder.rows("sample"):
        records = folder.data_of_sample.get(sample["token"], [])
        if not records:
            yield Violation(f"sample {sample['token']}", "no sample_data refers to it")
        keyframes = (row["calibrated_sensor_token"] for row in records if row["is_key_frame"])
        for token, times in Counter(folder.channels.get(t, (t, ""))[0] for t in keyframes).items():
            if times > 1:
                yield Violation(f"sample {sample['token']}", f"has {times} keyframes of {token}")
