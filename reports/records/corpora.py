"""One name per data set: records of different images or captions never meet, those of the same ones always do.

The fingerprint (`data_id`) decides, not the name that the user gave. Data of one fingerprint is shown under the name
of its newest record; a name with several fingerprints is told apart as NAME@FINGERPRINT.
"""

from dataclasses import dataclass

import pandas as pd

SYNTHETIC, OWN = "synthetic:", "vectors:"
VECTORS_ONLY = (SYNTHETIC, OWN)
"""Prefixes of corpora of generated vectors and of the user's own."""
DIGITS = 8  # of a fingerprint


@dataclass(frozen=True)
class Corpora:
    """`shown`: (profile, fingerprint) -> the name on pages. `given`: (profile, name on pages) -> names in the records.

    `split`: (profile, given name) -> the names on pages of its fingerprints, newest first, if it has several.
    """

    shown: dict[tuple[str, str], str]
    given: dict[tuple[str, str], set[str]]
    split: dict[tuple[str, str], list[str]]

    @classmethod
    def of(cls, rows: pd.DataFrame) -> "Corpora":
        """From prepared rows. Rows without corpus or fingerprint name nothing; nor do trainings, see `of_training`."""
        placed = rows[(rows.corpus != "") & (rows.data_id != "") & (rows.task != "training")]
        placed = placed[~placed.corpus.str.startswith(SYNTHETIC)].sort_values("started", ascending=False)
        placed = placed.assign(print=_fingerprint(placed.data_id))
        placed = placed[["profile", "corpus", "print"]].drop_duplicates()
        newest = placed.drop_duplicates(["profile", "print"])
        several = newest.groupby(["profile", "corpus"]).print.transform("size") > 1
        marked = newest.corpus + "@" + newest.print.str[:DIGITS]
        newest = newest.assign(shown=newest.corpus.where(~several, marked))
        shown = dict(zip(zip(newest.profile, newest.print, strict=True), newest.shown, strict=True))
        given: dict[tuple[str, str], set[str]] = {}
        for profile, corpus, of in placed.itertuples(index=False):
            given.setdefault((profile, shown[profile, of]), set()).add(corpus)
        split = newest[several].groupby(["profile", "corpus"], sort=False).shown.agg(list).to_dict()
        return cls(shown, given, split)

    def renamed(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows with the names on pages; generated vectors follow the corpus that they were fitted to."""
        made = rows.corpus.str.startswith(SYNTHETIC)
        keys = zip(rows.profile, _fingerprint(rows.data_id), strict=True)
        names = pd.Series([self.shown.get(key, "") for key in keys], rows.index, dtype=object)
        ours = (names != "") & (rows.corpus != "") & (rows.task != "training")
        vocabulary = rows.corpus.str.removeprefix(SYNTHETIC).str.partition(":")[2] if len(rows) else rows.corpus
        generated = SYNTHETIC + names + (":" + vocabulary).where(vocabulary != "", "")
        return rows.assign(corpus=rows.corpus.where(~ours, names.where(~made, generated)))

    def of_training(self, rows: pd.DataFrame, profile: str, corpus: str) -> pd.Series:
        """Whether each row is a training on a corpus (its name on pages), as far as the records tell.

        A training is on a corpus of its given name, unless it, or another one on the same training data, was measured
        on other data of that name only.
        """
        names = self.given.get((profile, corpus), {corpus})
        training = (rows.task == "training") & (rows.profile == profile) & rows.corpus.isin(names)
        rivals = {other for name in names for other in self.split.get((profile, name), ())} - {corpus}
        if not rivals:
            return training
        measured = rows[(rows.profile == profile) & (rows.task != "training")]
        here, there = (set(measured[measured.corpus.isin(of)].config_id) - {""} for of in ([corpus], rivals))
        of_run = rows[training].groupby("config_id").data_id.first()
        data_here, data_there = (set(of_run[of_run.index.isin(runs)]) - {""} for runs in (here, there))
        elsewhere = rows.config_id.isin(there - here) | rows.data_id.isin(data_there - data_here)
        return training & ~(elsewhere & ~rows.config_id.isin(here))

    def is_split(self, rows: pd.DataFrame) -> pd.Series:
        """Whether each row is a training under a name of several data sets, which are listed by their measurements."""
        several = [key in self.split for key in zip(rows.profile, rows.corpus, strict=True)]
        return (rows.task == "training") & pd.Series(several, rows.index, dtype=bool)

    def named(self, profile: str, asked: str) -> str:
        """The name on pages of a corpus that a user asks for: of a split name, the newest of its data."""
        if of := self.split.get((profile, asked)):
            return of[0]
        return next((shown for (of, shown), names in self.given.items() if of == profile and asked in names), asked)


def _fingerprint(data_ids: pd.Series) -> pd.Series:
    """The fingerprint of the corpus: protocols with qrels of their own append the id of these."""
    return data_ids.str.partition("-")[0] if len(data_ids) else data_ids
