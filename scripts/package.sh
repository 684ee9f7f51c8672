#!/usr/bin/env bash
# Packages of the release builds, in target/dist:
#   package.sh [TARGET…]   all targets without a name
# A .deb of each *-gnu* target, a tarball of each static *-musl* one, and beside them
# their debug info, licences and SBOM. The same sources give the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
targets=("$@")
[ $# -gt 0 ] || targets=({aarch64,x86_64}-unknown-linux-{gnu,musl} armv7-unknown-linux-{gnu,musl}eabihf)
built=${CARGO_TARGET_DIR:-target}
dist=$built/dist
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)

# Times in the packages are those of the commit; without git, of the change log.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)}
export SOURCE_DATE_EPOCH

scripts/setup.sh package
. scripts/versions.sh
scripts/cross.sh "${targets[@]}"

# Manual pages and completions, made by a test of the agent's own commands. Without that
# time, which has the libraries in C built anew.
env -u SOURCE_DATE_EPOCH cargo test --quiet --workspace --locked --bin tidegate pages
pages=$built/pages
cat >"$pages/changelog" <<END
tidegate ($version-1) stable; urgency=medium

  * What changed stands in CHANGELOG.md beside this file.

 -- $(sed -n 's/^maintainer = "\(.*\)"/\1/p' agent/Cargo.toml)  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")
END

# tarball TARGET FOLDER: the static program with all that belongs to it
tarball() {
  local name=tidegate-$version-${1/-unknown/} tree
  tree=$(mktemp -d)
  mkdir -p "$tree/$name"/{man,completions,examples,docs,systemd}
  cp "$2"/{tidegate,LICENCES,tidegate.cdx.json} README.md CHANGELOG.md LICENSE-* "$tree/$name"
  cp "$pages"/*.1 "$tree/$name/man"
  cp "$pages"/{tidegate.bash,_tidegate,tidegate.fish} "$tree/$name/completions"
  cp configs/*.toml packaging/environment systemd/credentials.conf "$tree/$name/examples"
  cp docs/*.md "$tree/$name/docs"
  cp systemd/tidegate.service "$tree/$name/systemd"
  chmod -R u=rwX,go=rX "$tree"
  tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$tree" -c "$name" |
    xz -T1 -6 >"$dist/$name.tar.xz"
  rm -rf "$tree"
}

mkdir -p "$dist"
for target in "${targets[@]}"; do
  ship=$built/$target/release/ship
  scripts/inventory.py "$target" "$ship"
  case $target in
    *-musl*) tarball "$target" "$ship" ;;
    *) "$cargo_deb" --locked --no-build --no-strip --package tidegate --target "$target" --output "$dist/" ;;
  esac
  cp "$ship/tidegate.debug" "$dist/tidegate-$version-$target.debug"
  cp "$ship/tidegate.cdx.json" "$dist/tidegate-$version-$target.cdx.json"
done
(cd "$dist" && sha256sum -- *.deb *.tar.xz *.debug *.cdx.json 2>/dev/null >SHA256SUMS) || true
ls -l "$dist"
