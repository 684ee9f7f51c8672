#!/usr/bin/env python3
"""Makes agent/src/source/modbus/sunspec/models.txt of SunSpec's own model definitions.

    scripts/sunspec.py FOLDER > agent/src/source/modbus/sunspec/models.txt

FOLDER holds the files model_*.json of https://github.com/sunspec/models (Apache-2.0), which
the Python package pysunspec2 brings too. Descriptions are left out, models that differ in
their number only stand together, and curves of unequal length (705 to 710 and 712) are cut
off: what lies behind them nobody knows without reading their counts.
"""

import json
import sys
from pathlib import Path

MODELS = [
    1, 101, 102, 103, 111, 112, 113, 120, 121, 122, 123, 124, 160, 201, 202, 203, 204, 211, 212,
    213, 214, *range(701, 715), 802, 803,
]
# What the fields of a model begin with; the others have their own name.
WORDS = {
    101: "inverter", 102: "inverter", 103: "inverter", 111: "inverter", 112: "inverter",
    113: "inverter", 124: "storage", 201: "meter", 202: "meter", 203: "meter", 204: "meter",
    211: "meter", 212: "meter", 213: "meter", 214: "meter", 803: "lithium",
}
TYPES = {
    "int16": "i16", "int32": "i32", "int64": "i64", "uint16": "u16", "uint32": "u32",
    "uint64": "u64", "raw16": "u16", "count": "u16", "acc16": "acc16", "acc32": "acc32",
    "acc64": "acc64", "enum16": "enum16", "enum32": "enum32", "bitfield16": "bits16",
    "bitfield32": "bits32", "bitfield64": "bits64", "float32": "f32", "float64": "f64",
    "sunssf": "sf",
}
UNITS = {"C": "°C", "Pct": "%", "Secs": "s"}


def word(text):
    """A text without blanks, which part the words of a line, and commas, which part names."""
    return text.strip().replace(" ", "_").replace(",", "_")


def line(point, prefix=""):
    kind, size = point["type"], point["size"]
    kind = TYPES.get(kind) or (f"text{size}" if kind == "string" else f"skip{size}")
    unit = UNITS.get(point.get("units"), point.get("units", "-"))
    factor = point.get("sf", "-")
    names = ",".join(f"{s['value']}={word(s['name'])}" for s in point.get("symbols", []))
    words = [prefix + point["name"], kind, str(factor), word(unit), names]
    while words[-1] in ("", "-"):
        words.pop()
    return " ".join(words)


def body(group):
    """Lines of a model: its points but the two of its header, and one repeating group."""
    points = group["points"][2:]
    if points and points[-1]["type"] == "pad" and not group.get("groups"):
        # Some devices leave it out.
        points.pop()
    yield from map(line, points)
    for part in group.get("groups", []):
        if "count" not in part and not part.get("groups") and part.get("type") == "sync":
            yield from (line(point, part["name"] + "_") for point in part["points"])
        elif part.get("groups") or part is not group["groups"][-1]:
            yield "more"
            return
        else:
            yield f"each {part['name']}"
            yield from map(line, part["points"])


def main():
    bodies = {}
    for model in MODELS:
        group = json.loads((Path(sys.argv[1]) / f"model_{model}.json").read_text())["group"]
        key = (WORDS.get(model, group["name"]), tuple(body(group)))
        bodies.setdefault(key, []).append(model)
    print("""\
# SunSpec's models as scripts/sunspec.py made this of the definitions of the SunSpec Alliance
# (https://github.com/sunspec/models, Apache License 2.0; changed: only what is needed to read).
# Points in the order of their registers, behind a model's ID and length:
#   name type [scale factor [unit [number=NAME,…]]]""")
    for (word, lines), models in bodies.items():
        print("model", ",".join(map(str, models)), word)
        print("\n".join(lines))


main()
