"""One name per data set: records of different images or captions never meet, those of the same ones always do.

The fingerprint (`data_id`) decides, not the name that the user gave. Data of one fingerprint is shown under the name
of its newest record; a name with several fingerprints is told apart as NAME@FINGERPRINT.
"""

from dataclasses import dataclass

import pandas as pd

SYNTHETIC = "synthetic:"
"""Prefix of corpora of generated vectors, before the name of the corpus that they were fitted to."""
OWN = "vectors:"
"""Prefix of corpora of the user's own vectors."""
DIGITS = 8  # of a fingerprint
COMPOSED = ("scenes", "pictures")  # the embedded corpora, whose licences allow to pass their images on


@dataclass(frozen=True)
class Corpora:
    """`shown`: fingerprint -> the name on pages. `of_name`: a name in the records -> the names on pages of its data,
    newest first.
    """

    shown: dict[str, str]
    of_name: dict[str, list[str]]

    @classmethod
    def of(cls, rows: pd.DataFrame) -> "Corpora":
        """From prepared rows. Rows without corpus or fingerprint name nothing, nor do trainings that ended: the
        fingerprint of those is of the training data, that of a failed one is of the corpus.
        """
        placed = rows[(rows.corpus != "") & (rows.data_id != "") & ((rows.task != "training") | (rows.status != "ok"))]
        placed = placed[~placed.corpus.str.startswith(SYNTHETIC)].sort_values("started", ascending=False, kind="stable")
        placed = placed.assign(print=fingerprint(placed.data_id))[["corpus", "print"]].drop_duplicates()
        several = placed.groupby("corpus").print.transform("size") > 1
        marked = placed.corpus + "@" + placed.print.str[:DIGITS]
        newest = placed.assign(shown=placed.corpus.where(~several, marked)).drop_duplicates("print")
        shown = dict(zip(newest.print, newest.shown, strict=True))
        of_name: dict[str, list[str]] = {}
        for corpus, of in placed.itertuples(index=False):
            of_name.setdefault(corpus, []).append(shown[of])
        return cls(shown, of_name)

    @property
    def split(self) -> dict[str, list[str]]:
        """The names in the records that are names of several data sets."""
        return {name: several for name, several in self.of_name.items() if len(several) > 1}

    def renamed(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows with the names on pages; generated vectors follow the corpus that they were fitted to.

        A training without the fingerprint of its corpus keeps a name of several data sets.
        """
        made = rows.corpus.str.startswith(SYNTHETIC)
        names = fingerprint(rows.data_id).map(self.shown).astype(object).fillna("").where(rows.corpus != "", "")
        named = {name: several[0] for name, several in self.of_name.items() if len(several) == 1}
        names = names.where((names != "") | (rows.task != "training"), rows.corpus.map(named).fillna(""))
        vocabulary = rows.corpus.str.removeprefix(SYNTHETIC).str.partition(":")[2] if len(rows) else rows.corpus
        generated = SYNTHETIC + names + (":" + vocabulary).where(vocabulary != "", "")
        return rows.assign(corpus=rows.corpus.where(names == "", names.where(~made, generated)))

    def of_training(self, rows: pd.DataFrame, corpus: str) -> pd.Series:
        """Whether each of the renamed rows is a training on a corpus, as far as the records tell.

        A training under a name of several data sets is on each of them, unless it, or another one on the same
        training data, was measured on others of that name only.
        """
        training = rows.task == "training"
        names = [name for name, several in self.split.items() if corpus in several]
        unsure = training & rows.corpus.isin(names)
        rivals = {other for name in names for other in self.of_name[name]} - {corpus}
        measured = rows[~training]
        here, there = (set(measured[measured.corpus.isin(of)].config_id) - {""} for of in ([corpus], rivals))
        of_run = rows[unsure].groupby("config_id").data_id.first()
        data_here, data_there = (set(of_run[of_run.index.isin(runs)]) - {""} for runs in (here, there))
        elsewhere = rows.config_id.isin(there - here) | rows.data_id.isin(data_there - data_here)
        return training & (rows.corpus == corpus) | unsure & ~(elsewhere & ~rows.config_id.isin(here))

    def is_unsure(self, rows: pd.DataFrame) -> pd.Series:
        """Whether each of the renamed rows is a training under a name of several data sets."""
        return (rows.task == "training") & rows.corpus.isin(list(self.split))

    def named(self, asked: str) -> str:
        """The name on pages of a corpus that a user asks for: of a name of several data sets, the newest of them."""
        return self.of_name.get(asked, [asked])[0]

    def given(self, shown: str) -> set[str]:
        """The names in the records of a corpus on pages, and its own."""
        return {shown, *(name for name, several in self.of_name.items() if shown in several)}


def is_photographs(corpus: str) -> bool:
    """Whether the images of a corpus are of a user: real photographs, whose licences may forbid to pass them on."""
    return bool(corpus) and not corpus.startswith((OWN, SYNTHETIC)) and corpus.partition("@")[0] not in COMPOSED


def fitted_to(corpus: str) -> str:
    """The corpus that generated vectors were fitted to; "" for any other corpus."""
    return corpus.removeprefix(SYNTHETIC).partition(":")[0] if corpus.startswith(SYNTHETIC) else ""


def own_or_fitted_to(corpus: str) -> str:
    """The corpus whose pages show a corpus."""
    return fitted_to(corpus) or corpus


def fingerprint(data_ids: pd.Series) -> pd.Series:
    """The fingerprint of the corpus: protocols with qrels of their own append the id of these."""
    return data_ids.str.partition("-")[0] if len(data_ids) else data_ids
