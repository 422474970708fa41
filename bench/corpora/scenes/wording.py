"""Vocabulary of the captions: several wordings for each place, time of day, number, size and relation."""

NUMBERS = ("", "", "two", "three", "four")
SOME = {2: ("some", "a couple of"), 3: ("some", "several", "a few"), 4: ("some", "several", "a group of")}
SIZE_WORDS = (("small", "little", "tiny"), (), ("big", "large", "huge"))

# place -> (phrases that follow the things, noun phrases that start a caption: "a beach with ...")
PLACES = {
    "beach": (
        ("on a beach", "on the beach", "on a sandy beach", "by the shore"),
        ("a beach", "a sandy beach", "a sandy shore"),
    ),
    "rocky coast": (
        ("on a rocky coast", "on the rocky shore", "by rocks in the sea", "at a rocky seaside"),
        ("a rocky coast", "a rocky shore", "rocks by the sea"),
    ),
    "sea": (
        ("at sea", "over the ocean", "on the open sea", "in front of the waves"),
        ("the open sea", "the ocean", "a wide sea"),
    ),
    "lake": (
        ("by a lake", "at a lake", "beside calm water", "on the shore of a lake"),
        ("a lake", "a calm lake", "a lake landscape"),
    ),
    "desert": (
        ("in a desert", "in the desert", "on dry desert ground", "in a barren desert"),
        ("a desert", "a dry desert", "a barren desert"),
    ),
    "canyon": (
        ("in a canyon", "in front of canyon walls", "among red cliffs", "in a rocky canyon"),
        ("a canyon", "a rocky canyon", "a canyon of red cliffs"),
    ),
    "mountains": (
        ("in the mountains", "in front of mountains", "among mountain peaks", "high in the mountains"),
        ("a mountain landscape", "a mountain range", "the mountains"),
    ),
    "snow": (
        ("in the snow", "in front of snowy mountains", "on a snowy mountain", "among snowy peaks"),
        ("a snowy landscape", "snowy mountains", "a snowy mountain scene"),
    ),
    "glacier": (
        ("on the ice", "in front of a glacier", "in an icy landscape", "among ice"),
        ("a glacier", "an icy landscape", "a field of ice"),
    ),
    "field": (
        ("in a field", "on open grassland", "in a wide field", "on a plain"),
        ("a field", "a wide field", "open grassland"),
    ),
    "green hills": (
        ("on green hills", "in front of green hills", "among grassy hills", "in the hills"),
        ("green hills", "grassy hills", "a green hillside"),
    ),
    "forest": (
        ("in a forest", "over a forest", "in front of wooded hills", "above the trees"),
        ("a forest", "wooded hills", "a forest landscape"),
    ),
    "city": (
        ("in a city", "over a city", "in front of a skyline", "in front of city buildings"),
        ("a city", "a city skyline", "an urban skyline"),
    ),
    "volcano": (
        ("on a volcano", "by a volcano", "in a volcanic landscape", "on volcanic ground"),
        ("a volcanic landscape", "a volcano", "volcanic ground"),
    ),
}
TIME_PHRASES = {
    "day": ("during the day", "in daylight", "by day"),
    "sunset": ("at sunset", "at dusk", "in the evening", "in warm evening light"),
    "night": ("at night", "after dark", "in the dark", "by night"),
    "haze": ("in the fog", "in haze", "on a foggy day", "in the mist"),
}
LEFT = ("to the left of", "left of", "on the left of", "on the left side of")
RIGHT = ("to the right of", "right of", "on the right of", "on the right side of")
ABOVE = ("above", "over", "higher up than")
BELOW = ("below", "under", "beneath", "underneath")
BESIDE = ("next to", "beside", "near")
JOINERS = ("and", "with", "and also", "together with")
OPENINGS = ("a photo of", "a picture of", "an image of", "a view of")

# What a scene shows in single words: those of the wordings above that name a place or a time of day by themselves.
PLACE_WORDS = {
    "beach": ("beach", "sandy", "shore"),
    "rocky coast": ("coast", "rocky", "shore", "rocks", "seaside"),
    "sea": ("sea", "ocean", "waves"),
    "lake": ("lake", "water"),
    "desert": ("desert", "barren"),
    "canyon": ("canyon", "cliffs", "rocky"),
    "mountains": ("mountains", "mountain", "peaks"),
    "snow": ("snow", "snowy", "mountains", "mountain", "peaks"),
    "glacier": ("glacier", "ice", "icy"),
    "field": ("field", "grassland", "plain"),
    "green hills": ("hills", "grassy", "hillside"),
    "forest": ("forest", "wooded", "trees"),
    "city": ("city", "skyline", "buildings", "urban"),
    "volcano": ("volcano", "volcanic"),
}
TIME_WORDS = {
    "day": ("day", "daylight"),
    "sunset": ("sunset", "dusk", "evening"),
    "night": ("night", "dark"),
    "haze": ("fog", "foggy", "haze", "mist"),
}
