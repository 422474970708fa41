"""Make the data pack of `scenes` from three npm packages and one Debian package, all unpacked beforehand.

    npm pack emoji-datasource-google@16.0.0 @lobehub/fluent-emoji-3d@1.1.0 emojibase-data@17.0.0     # then tar xzf each
    apt-get download endless-sky-data                                                              # then dpkg-deb -x
    lexlip-bench pack --noto DIR --fluent DIR --names DIR --land DIR

Each DIR is the folder the archive was unpacked into. Writes `data/scenes.parquet` (pictures as WebP, with what is known of each), `data/licences.csv`
(one row per picture) and `data/scenes.sha256`. The same packages and the same Pillow give the same bytes.
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

from bench.corpora.scenes.pack import COLUMNS, LICENCES, PACK, decode
from models.errors import InputError

SPRITE_PIXELS = 96  # long side; 224-pixel scenes show sprites at 56 to 105 pixels, 64-pixel scenes at 16 to 30
PHOTO_HEIGHT = 224  # the photographs are 2:1; a scene shows a square crop
SPRITE_QUALITY = 90
PHOTO_QUALITY = 85
ALLOWED = ("public-domain", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "Apache-2.0", "MIT")
CARTOON = {  # style -> (package, folder of its pictures, suffix, author, licence)
    "noto": ("emoji-datasource-google", "img/google/64", ".png", "Google LLC (Noto Emoji)", "Apache-2.0"),
    "fluent": ("@lobehub/fluent-emoji-3d", "assets", ".webp", "Microsoft Corporation (Fluent Emoji)", "MIT"),
}
LAND = "usr/share/games/endless-sky/images/land"
COPYRIGHT = "usr/share/doc/endless-sky-data/copyright"


def hexcode(emoji: str) -> str:
    """Code points of an emoji without the variation selector: the name its picture has in every package."""
    return "-".join(f"{ord(c):x}" for c in emoji if c != "\ufe0f")


def pictures_by_hexcode(folder: Path, suffix: str) -> dict[str, Path]:
    files = sorted(folder.glob(f"*{suffix}"))
    if not files:
        raise InputError(f"{folder} holds no *{suffix} file; expected the unpacked package")
    return {file.stem.lower().replace("-fe0f", ""): file for file in files}


def package_version(folder: Path) -> str:
    file = folder / "package" / "package.json"
    if not file.exists():
        raise InputError(f"{file} does not exist; expected an unpacked npm package")
    return json.loads(file.read_text())["version"]


def names_by_hexcode(folder: Path) -> dict[str, dict]:
    """Label, tags and group of each emoji, from emojibase."""
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
    """The picture cropped to what is visible and scaled so that its long side is at most SPRITE_PIXELS; never enlarged."""
    image = Image.open(file).convert("RGBA")
    image = image.crop(image.getchannel("A").point(lambda a: 255 * (a > 24)).getbbox())
    scale = SPRITE_PIXELS / max(image.size)
    if scale < 1:
        size = [max(1, round(side * scale)) for side in image.size]
        image = image.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    return image


def webp(image: Image.Image, quality: int) -> tuple[bytes, int]:
    """WebP bytes, and the CRC-32 of the pixels they decode to (so that a decoder that differs is noticed)."""
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=quality, method=6, alpha_quality=100)
    return stream.getvalue(), zlib.crc32(decode(stream.getvalue()).tobytes())


def land_licences(copyright_file: Path) -> list[tuple[str, str, str]]:
    """(file pattern, author, licence) of each paragraph about `images/land`; the last that matches a file holds."""
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
    labels = names_by_hexcode(names)
    rows, licences = [], []
    sources = {
        style: (folder, pictures_by_hexcode(folder / "package" / CARTOON[style][1], CARTOON[style][2]))
        for style, folder in (("noto", noto), ("fluent", fluent))
    }
    for concept in concepts:
        found = 0
        for emoji in concept["emoji"]:
            code = hexcode(emoji)
            about = labels.get(code, {"label": concept["name"], "tags": [], "group": ""})
            for style, (folder, pictures) in sources.items():
                if code not in pictures or style in concept.get("without", []):
                    continue
                package, _, _, author, licence = CARTOON[style]
                data, crc = webp(sprite_image(pictures[code]), SPRITE_QUALITY)
                file = f"{style}/{code}"
                rows.append(
                    {
                        "file": file,
                        "kind": "sprite",
                        "of": concept["name"],
                        "style": style,
                        "group": about["group"],
                        "tags": about["tags"],
                        "times": [],
                        "webp": data,
                        "crc32": crc,
                    }
                )
                licences.append(
                    {
                        "file": file,
                        "source": f"{CARTOON[style][1]}/{pictures[code].name}",
                        "package": package,
                        "version": package_version(folder),
                        "author": author,
                        "licence": licence,
                    }
                )
                found += 1
        if not found:
            raise InputError(f"concepts.yaml: no package has a picture of {concept['name']!r} ({concept['emoji']})")
    return rows, licences


def photo_rows(places: dict[str, list], land: Path) -> tuple[list[dict], list[dict]]:
    rules = land_licences(land / COPYRIGHT)
    rows, licences = [], []
    for place, photos in places.items():
        for photo in photos:
            name, times = (photo, []) if isinstance(photo, str) else (photo["file"], photo["times"])
            source = land / LAND / f"{name}.jpg"
            if not source.exists():
                raise InputError(f"photos.yaml: {source} does not exist")
            image = Image.open(source).convert("RGB").resize((2 * PHOTO_HEIGHT, PHOTO_HEIGHT), Image.Resampling.LANCZOS)
            data, crc = webp(image, PHOTO_QUALITY)
            _, author, licence = [rule for rule in rules if fnmatch.fnmatch(f"images/land/{name}.jpg", rule[0])][-1]
            file = f"photo/{name}"
            rows.append(
                {
                    "file": file,
                    "kind": "photo",
                    "of": place,
                    "style": "",
                    "group": "",
                    "tags": [],
                    "times": times,
                    "webp": data,
                    "crc32": crc,
                }
            )
            licences.append(
                {
                    "file": file,
                    "source": f"{LAND}/{name}.jpg",
                    "package": "endless-sky-data",
                    "version": "0.9.8-1.2",
                    "author": author,
                    "licence": licence,
                }
            )
    return rows, licences


def concept_entry(concept: dict) -> dict:
    """One concept as the pack holds it: every name as (article, singular, plural)."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag, package in (
        ("noto", "emoji-datasource-google"),
        ("fluent", "@lobehub/fluent-emoji-3d"),
        ("names", "emojibase-data"),
        ("land", "endless-sky-data"),
    ):
        parser.add_argument(f"--{flag}", type=Path, required=True, help=f"folder into which {package} was unpacked")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "data", help="folder of the pack (default: %(default)s)"
    )
    args = parser.parse_args()
    make(args.noto, args.fluent, args.names, args.land, args.out)


def parser():
    main()
