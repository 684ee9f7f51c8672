#!/usr/bin/env python3
"""What the agent for a target is made of: a CycloneDX 1.5 list, and all licence texts.

    inventory.py TARGET FOLDER    writes FOLDER/tidegate.cdx.json and FOLDER/LICENCES

Two of the same sources are the same bytes. It is written here, and not by
cargo-cyclonedx, since a third of the program is C that stands inside crates: OpenSSL,
librdkafka, SQLite, zstd and zlib, which a list of crates does not name.
"""

import json
import re
import subprocess
import sys
import uuid
from pathlib import Path

target, folder = sys.argv[1], Path(sys.argv[2])
root = Path(__file__).resolve().parent.parent


def cargo(*words):
    done = subprocess.run(["cargo", *words], cwd=root, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


# What is linked: no macro, nothing that only runs during the build.
TREE = ["tree", "--locked", "--package", "tidegate", "--target", target, "--prefix", "none", "--format", "{p}"]
linked = set()
for line in cargo(*TREE, "--edges", "normal,no-proc-macro").splitlines():
    name, version = line.split()[:2]
    linked.add((name, version.removeprefix("v")))
packages = {
    (package["name"], package["version"]): package
    for package in json.loads(cargo("metadata", "--locked", "--format-version", "1"))["packages"]
}
# openssl-sys only brings the sources in by it.
linked |= {key for key in packages if key[0] == "openssl-src"}
ENTRY = re.compile(r'name = "(.+)"\nversion = "(.+)"\nsource = ".+"\nchecksum = "(.+)"')
checksums = {(name, version): sum_ for name, version, sum_ in ENTRY.findall((root / "Cargo.lock").read_text())}


def place(name):
    (manifest,) = [p["manifest_path"] for (n, _), p in packages.items() if n == name and (n, _) in linked]
    return Path(manifest).parent


def sqlite():
    text = (place("libsqlite3-sys") / "sqlite3/sqlite3.h").read_text()
    return re.search(r'#define SQLITE_VERSION\s+"(.+)"', text)[1]


def plus(name):
    """The version behind the + of a crate's own."""
    (version,) = [version for (found, version) in linked if found == name]
    return version.split("+")[1].removeprefix("zstd.")


def zlib():
    text = (place("libz-sys") / "src/zlib/zlib.h").read_text()
    return re.search(r'#define ZLIB_VERSION "(.+)"', text)[1]


rust = subprocess.run(["rustc", "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()[1]
# Name, version, licence, where its texts are.
OTHER = [
    ("rust-std", rust, "MIT", None),
    ("openssl", plus("openssl-src"), "Apache-2.0", place("openssl-src") / "openssl/LICENSE.txt"),
    ("librdkafka", plus("rdkafka-sys"), "BSD-2-Clause", place("rdkafka-sys") / "librdkafka/LICENSES.txt"),
    ("sqlite", sqlite(), "blessing", None),
    ("zstd", plus("zstd-sys"), "BSD-3-Clause", place("zstd-sys") / "zstd/LICENSE"),
    ("zlib", zlib(), "Zlib", place("libz-sys") / "src/zlib/LICENSE"),
]
if "musl" in target:
    OTHER.append(("musl", "as in zig", "MIT", None))

TEXTS = re.compile(r"^(licen[cs]e|copying|copyright|unlicense|notice)", re.IGNORECASE)


def texts(package):
    here = Path(package["manifest_path"]).parent
    found = sorted(path for path in here.iterdir() if path.is_file() and TEXTS.match(path.name))
    # Most with a choice of licences give both; the MIT text is what is taken, it is the shorter.
    mit = [path for path in found if "mit" in path.name.lower()]
    return mit if mit and "AND" not in package["license"] else found


def licence(package):
    # The slash is an old way to say OR.
    return package["license"].replace("/", " OR ")


components, parts = [], []
for key in sorted(linked):
    package = packages[key]
    if package["source"] is None:
        continue
    name, version = key
    purl = f"pkg:cargo/{name}@{version}"
    components.append({
        "type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl,
        "licenses": [{"expression": licence(package)}],
        "hashes": [{"alg": "SHA-256", "content": checksums[key]}],
    })
    found = texts(package)
    parts.append((f"{name} {version}", licence(package), found or [root / "LICENSE-APACHE"]))
for name, version, id_, path in OTHER:
    purl = f"pkg:generic/{name}@{version}".replace(" ", "%20")
    components.append({
        "type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl,
        "licenses": [{"license": {"id": id_}}],
    })
    if path:
        parts.append((f"{name} {version}", id_, [path]))

(own,) = [package for (name, _), package in packages.items() if name == "tidegate"]
itself = {
    "type": "application", "bom-ref": "tidegate", "name": "tidegate", "version": own["version"],
    "licenses": [{"expression": own["license"]}],
}
bom = {
    "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
    "metadata": {"component": itself, "properties": [{"name": "target", "value": target}]},
    "components": components,
}
bom["serialNumber"] = "urn:uuid:" + str(uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(bom, sort_keys=True)))
folder.mkdir(parents=True, exist_ok=True)
(folder / "tidegate.cdx.json").write_text(json.dumps(bom, indent=1, sort_keys=True, ensure_ascii=False) + "\n")

# The same text stands once, below all that are under it.
under = {}
for name, id_, paths in parts:
    text = "\n\n".join(path.read_text(errors="replace").strip() for path in paths)
    under.setdefault(text, []).append(f"{name} ({id_})")
with (folder / "LICENCES").open("w") as out:
    out.write(
        "tidegate is licensed under MIT or Apache-2.0, at your option. In its program are the\n"
        "following, and Rust's standard library (MIT or Apache-2.0, the Rust developers), SQLite\n"
        "(in the public domain) and, where it is static, musl (MIT, Rich Felker and others).\n"
    )
    for text, names in sorted(under.items(), key=lambda item: item[1]):
        out.write("\n" + "=" * 78 + "\n" + "\n".join(names) + "\n" + "-" * 78 + "\n\n" + text + "\n")
