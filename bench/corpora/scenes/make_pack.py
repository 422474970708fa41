"""Makes the data pack of `scenes` from three npm packages and one Debian package, all unpacked beforehand.

    npm pack emoji-datasource-google@16.0.0 @lobehub/fluent-emoji-3d@1.1.0 emojibase-data@17.0.0     # then tar xzf each
    apt-get download endless-sky-data                                                              # then dpkg-deb -x
    lexlip-bench pack --noto DIR --fluent DIR --names DIR --land DIR

DIR is the folder an archive was unpacked into. Writes `scenes.parquet` (WebP pictures with their names, keywords and
times of day), `licences.csv` (one row per picture) and `scenes.sha256`. The same packages and the same Pillow give
the same bytes.
"""

import argparse
import csv
import fnmatch
import hashlib
import io
import json
import re
import zlib
from pathlib import Path

import pyarrow
import pyarrow.parquet
import yaml
from PIL import Image

from bench.corpora.scenes.pack import COLUMNS, DATA, LICENCES, PACK, decode
from models.errors import InputError

SPRITE_PIXELS = 96  # longer side; scenes of 224 pixels show sprites at 56 to 105 pixels, those of 64 at 16 to 30
PHOTO_HEIGHT = 224  # the photographs are 2:1; a scene shows a square crop
SPRITE_QUALITY = 90
PHOTO_QUALITY = 85
ALLOWED = ("public-domain", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "Apache-2.0", "MIT")
CARTOON = {  # style -> (npm package, folder of its pictures, suffix, author, licence)
    "noto": ("emoji-datasource-google", "img/google/64", ".png", "Google LLC (Noto Emoji)", "Apache-2.0"),
    "fluent": ("@lobehub/fluent-emoji-3d", "assets", ".webp", "Microsoft Corporation (Fluent Emoji)", "MIT"),
}
PACKAGES = {  # flag -> package
    "noto": "emoji-datasource-google",
    "fluent": "@lobehub/fluent-emoji-3d",
    "names": "emojibase-data",
    "land": "endless-sky-data",
}
LAND = "usr/share/games/endless-sky/images/land"
COPYRIGHT = "usr/share/doc/endless-sky-data/copyright"


def hexcode(emoji: str) -> str:
    """Code points of an emoji without the variation selector: the file name of its picture in every package."""
    return "-".join(f"{ord(c):x}" for c in emoji if c != "\ufe0f")


def pictures_by_hexcode(folder: Path, suffix: str) -> dict[str, Path]:
    """The pictures of a package by `hexcode`. Raises InputError if there is none."""
    files = sorted(folder.glob(f"*{suffix}"))
    if not files:
        raise InputError(f"{folder}: no *{suffix} files; expected an unpacked npm package")
    return {file.stem.lower().replace("-fe0f", ""): file for file in files}


def package_version(folder: Path) -> str:
    """Version of an unpacked npm package. Raises InputError."""
    file = folder / "package" / "package.json"
    if not file.exists():
        raise InputError(f"{file}: no such file; expected an unpacked npm package")
    return json.loads(file.read_text())["version"]


def names_by_hexcode(folder: Path) -> dict[str, dict]:
    """Label, tags and group of each emoji by `hexcode`, from emojibase."""
    data = folder / "package" / "en"
    group_names = {group["order"]: group["key"] for group in json.loads((data / "messages.json").read_text())["groups"]}
    return {
        hexcode(entry["emoji"]): {
            "label": entry["label"],
            "tags": entry.get("tags", []),
            "group": group_names.get(entry.get("group"), ""),
        }
        for entry in json.loads((data / "data.json").read_text())
    }


def sprite_image(file: Path) -> Image.Image:
    """The picture cropped to its visible part and reduced to a longer side of at most SPRITE_PIXELS."""
    image = Image.open(file).convert("RGBA")
    image = image.crop(image.getchannel("A").point(lambda a: 255 * (a > 24)).getbbox())
    scale = SPRITE_PIXELS / max(image.size)
    if scale < 1:
        size = [max(1, round(side * scale)) for side in image.size]
        image = image.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    return image


def webp(image: Image.Image, quality: int) -> tuple[bytes, int]:
    """WebP bytes, and the CRC-32 of the decoded pixels, by which a decoder that differs is detected."""
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=quality, method=6, alpha_quality=100)
    return stream.getvalue(), zlib.crc32(decode(stream.getvalue()).tobytes())


def land_licences(copyright_file: Path) -> list[tuple[str, str, str]]:
    """(file pattern, author, licence) per paragraph about `images/land`; for a file, the last match applies."""
    rules = []
    for paragraph in copyright_file.read_text().split("\n\n"):
        if "images/land" not in paragraph:
            continue
        patterns = re.findall(r"images/land/\S+", paragraph)
        author = re.search(r"^Copyright: (.*)$", paragraph, re.M).group(1)
        licence = re.search(r"^License: (.*)$", paragraph, re.M).group(1)
        origin = re.search(r"Taken from ([\w.-]+\.com)", paragraph)
        rules += [(pattern, f"{author} ({origin.group(1)})" if origin else author, licence) for pattern in patterns]
    return rules


def sprite_rows(concepts: list[dict], noto: Path, fluent: Path, names: Path) -> tuple[list[dict], list[dict]]:
    """The sprites of all concepts, and their licences. Raises InputError for a concept without a picture."""
    labels = names_by_hexcode(names)
    rows, licences = [], []
    sources = {
        style: (folder, pictures_by_hexcode(folder / "package" / CARTOON[style][1], CARTOON[style][2]))
        for style, folder in (("noto", noto), ("fluent", fluent))
    }
    for concept in concepts:
        before = len(rows)
        for code in map(hexcode, concept["emoji"]):
            about = labels.get(code, {"tags": [], "group": ""})
            for style, (folder, pictures) in sources.items():
                if code not in pictures or style in concept.get("without", []):
                    continue
                package, source, _, author, licence = CARTOON[style]
                origin = {"package": package, "version": package_version(folder), "author": author, "licence": licence}
                file = f"{style}/{code}"
                rows.append(
                    _row(file, sprite_image(pictures[code]), SPRITE_QUALITY, kind="sprite", of=concept["name"])
                    | {"style": style, "group": about["group"], "tags": about["tags"]}
                )
                licences.append({"file": file, "source": f"{source}/{pictures[code].name}"} | origin)
        if len(rows) == before:
            raise InputError(f"concepts.yaml: no package has a picture of {concept['name']!r} ({concept['emoji']})")
    return rows, licences


def photo_rows(places: dict[str, list], land: Path) -> tuple[list[dict], list[dict]]:
    """The photographs of all places, and their licences. Raises InputError for a missing file."""
    rules = land_licences(land / COPYRIGHT)
    rows, licences = [], []
    for place, photos in places.items():
        for photo in photos:
            name, times = (photo, []) if isinstance(photo, str) else (photo["file"], photo["times"])
            source = land / LAND / f"{name}.jpg"
            if not source.exists():
                raise InputError(f"photos.yaml: {source}: no such file")
            image = Image.open(source).convert("RGB").resize((2 * PHOTO_HEIGHT, PHOTO_HEIGHT), Image.Resampling.LANCZOS)
            _, author, licence = [rule for rule in rules if fnmatch.fnmatch(f"images/land/{name}.jpg", rule[0])][-1]
            origin = {"package": "endless-sky-data", "version": "0.9.8-1.2", "author": author, "licence": licence}
            file = f"photo/{name}"
            rows.append(_row(file, image, PHOTO_QUALITY, kind="photo", of=place) | {"times": times})
            licences.append({"file": file, "source": f"{LAND}/{name}.jpg"} | origin)
    return rows, licences


def _row(file: str, image: Image.Image, quality: int, kind: str, of: str) -> dict:
    data, crc = webp(image, quality)
    unset = {"style": "", "group": "", "tags": [], "times": []}
    return {"file": file, "kind": kind, "of": of} | unset | {"webp": data, "crc32": crc}


def concept_entry(concept: dict) -> dict:
    """A concept as stored in the pack: every name as (article, singular, plural)."""
    names = [
        [concept["name"], concept["plural"], *([concept["article"]] if "article" in concept else [])],
        *concept.get("also", []),
    ]
    with_article = [
        [article[0] if article else "an" if singular[0] in "aeiou" else "a", singular, plural]
        for singular, plural, *article in names
    ]
    return {"names": with_article, "tintable": concept.get("tintable", False)}


def make(noto: Path, fluent: Path, names: Path, land: Path, out: Path) -> None:
    """Writes the pack to `out` from four unpacked packages. Raises InputError for a licence not in ALLOWED."""
    here = Path(__file__).parent
    concepts = yaml.safe_load((here / "concepts.yaml").read_text())
    places = yaml.safe_load((here / "photos.yaml").read_text())["places"]
    sprites, sprite_licences = sprite_rows(concepts, noto, fluent, names)
    photos, photo_licences = photo_rows(places, land)
    licences = sprite_licences + photo_licences
    refused = [row["file"] for row in licences if row["licence"] not in ALLOWED]
    if refused:
        raise InputError(f"not openly licensed: {', '.join(refused)}")
    about = {"concepts": [concept_entry(concept) for concept in concepts], "places": list(places)}
    table = pyarrow.Table.from_pylist(sprites + photos, schema=COLUMNS).replace_schema_metadata(
        {"scenes": json.dumps(about, ensure_ascii=False)}
    )
    out.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, out / PACK, compression="zstd", store_schema=True)
    with open(out / LICENCES, "w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(licences[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(licences)
    lines = [f"{hashlib.sha256((out / name).read_bytes()).hexdigest()}  {name}\n" for name in (PACK, LICENCES)]
    (out / "scenes.sha256").write_text("".join(lines))


def main(arguments) -> None:
    """`lexlip-bench pack`."""
    make(arguments.noto, arguments.fluent, arguments.names, arguments.land, arguments.out)
    print(arguments.out / PACK)


def parser() -> argparse.ArgumentParser:
    """Flags of `lexlip-bench pack`."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag, package in PACKAGES.items():
        flags.add_argument(f"--{flag}", type=Path, required=True, help=f"folder into which {package} was unpacked")
    flags.add_argument("--out", type=Path, default=DATA, help="folder of the pack (default: %(default)s)")
    flags.add_argument("--verbose", action="store_true", help="log more")
    return flags
