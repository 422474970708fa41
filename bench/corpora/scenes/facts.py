"""The facts of a scene as plain values: groups, relations, place and time."""

from dataclasses import dataclass

from bench.corpora.scenes import wording
from bench.corpora.scenes.columns import (
    A_ABOVE,
    A_LEFT,
    B_ABOVE,
    B_LEFT,
    BESIDE,
    COLOUR,
    COLOURS,
    CONCEPT,
    COUNT,
    GROUP_WIDTH,
    GROUPS,
    ITEMS,
    MIDDLE,
    N_GROUPS,
    PAIRS,
    PHOTO,
    SIDE,
    SIZE,
    SIZE_UNITS,
    SIZES,
    SPRITE,
    TIME,
    TIMES,
)
from bench.corpora.scenes.pack import Pack


@dataclass(frozen=True)
class Group:
    """Copies of one concept. positions: (x0, y0, x1, y1) of each copy in pixels, ends excluded."""

    concept: str
    count: int
    colour: str | None
    size: str | None
    style: str
    positions: tuple[tuple[int, int, int, int], ...]


@dataclass(frozen=True)
class Scene:
    """A scene. relations: (group, relation, group) by index, with "left of", "above" and "next to" only."""

    groups: tuple[Group, ...]
    relations: tuple[tuple[int, str, int], ...]
    between: int | None  # the group between the two others
    place: str
    time: str


def facts_of(scene, pack: Pack, pixels: int) -> Scene:
    """The facts of a scene row, at a side of `pixels`."""
    scene = [int(value) for value in scene]
    groups, relations = [], []
    for g in range(scene[N_GROUPS]):
        group = scene[GROUPS + g * GROUP_WIDTH : GROUPS + (g + 1) * GROUP_WIDTH]
        side = SIZE_UNITS[group[SIZE]] * pixels // SIDE
        corners = [
            (group[ITEMS + 2 * k] * pixels // SIDE, group[ITEMS + 2 * k + 1] * pixels // SIDE)
            for k in range(group[COUNT])
        ]
        groups.append(
            Group(
                concept=pack.concepts[group[CONCEPT]].name,
                count=group[COUNT],
                colour=COLOURS[group[COLOUR]] if group[COLOUR] >= 0 else None,
                size=SIZES[group[SIZE]] if group[SIZE] != 1 else None,
                style=pack.sprites[group[SPRITE]].style,
                positions=tuple((x, y, x + side, y + side) for x, y in corners),
            )
        )
        for other in range(g):
            bits = scene[PAIRS + g + other - 1]
            for bit, a, relation, b in (
                (A_LEFT, other, "left of", g),
                (B_LEFT, g, "left of", other),
                (A_ABOVE, other, "above", g),
                (B_ABOVE, g, "above", other),
                (BESIDE, other, "next to", g),
            ):
                if bits & bit:
                    relations.append((a, relation, b))
    return Scene(
        tuple(groups),
        tuple(relations),
        scene[MIDDLE] if scene[MIDDLE] >= 0 else None,
        pack.photos[scene[PHOTO]].of,
        TIMES[scene[TIME]],
    )


def words_of(scene: Scene, pack: Pack) -> list[tuple[str, ...]]:
    """Each concept of a scene in the singular and plural of all its names, each colour, the place and the time of day.

    A name of several words stays one; counts, sizes and relations are not among them.
    """
    shown = {group.concept for group in scene.groups}
    concepts = [concept.names for concept in pack.concepts if concept.name in shown]
    named = [tuple(dict.fromkeys(form for _, *forms in names for form in forms)) for names in concepts]
    colours = [(colour,) for colour in dict.fromkeys(group.colour for group in scene.groups if group.colour)]
    return [*named, *colours, wording.PLACE_WORDS[scene.place], wording.TIME_WORDS[scene.time]]
