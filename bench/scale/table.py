"""The table that a sweep prints at its end."""

import pandas as pd

KEYS = ["corpus", "images", "kind", "engine", "top_k", "bits", "knobs"]


def table(rows: pd.DataFrame) -> str:
    """Records of a sweep as text: for each corpus, size, engine and setting, a line of quality, bytes and rates."""
    if not len(rows):
        return "no records"
    points = rows.drop_duplicates("point_id").set_index("point_id")[[*KEYS, "batch_mode", "threads", "status", "note"]]
    measured = rows[rows.metric != ""].pivot_table(index="point_id", columns="metric", values="value")
    values = measured.reindex(points.index)
    graded = "ndcg@10" in values
    quality = f"{'R@1':>6} {'nDCG@10 ' * graded}{'engine R@10':>11} {'float R@10':>10}"  # float: against float weights
    columns = f"{'images':>10} {'engine':<16} {'top_k':>5} {'bits':>5} {quality} {'bytes/image':>11}"
    lines = []
    for key, group in points.groupby(KEYS, dropna=False, sort=True):
        head = f"{columns}  rates (queries/s), knobs: {key[0]}"
        if head not in lines:
            lines.append(head)
        lines.append(_line(key, group, values))
    return "\n".join(lines)


def _line(key: tuple, group: pd.DataFrame, values: pd.DataFrame) -> str:
    _, images, _, engine, top_k, bits, knobs = key
    start = f"{images:>10,} {engine:<16}"
    accuracy = group[group.batch_mode == ""]
    setting = f"{start} {_text(top_k):>5} {_text(bits):>5}"
    if not len(accuracy) or accuracy.status.iloc[0] != "ok":
        return f"{setting} {_ended((accuracy if len(accuracy) else group).iloc[0])}  {knobs}"
    found, unknown = values.loc[accuracy.index[0]], float("nan")
    timed = group[(group.batch_mode != "") & (group.status == "ok")]
    rates = [f"{row.batch_mode} x{row.threads} {values.loc[point, 'qps']:.0f}" for point, row in timed.iterrows()]
    quality = f"{found.get('recall@1', unknown):>6.3f} "
    quality += f"{found['ndcg@10']:>7.3f} " if "ndcg@10" in found else ""
    quality += f"{found['engine_recall@10']:>11.3f}"
    quality += f" {found.get('unquantised_recall@10', unknown):>10.3f}"
    size = f"{found.get('bytes_per_image', unknown):>11.1f}"
    failed = group[(group.batch_mode != "") & (group.status != "ok")]
    rates += [f"{row.batch_mode} x{row.threads} {_ended(row)}" for row in failed.itertuples()]
    return f"{setting} {quality} {size}  {', '.join(rates)}  {knobs}"


def _ended(row) -> str:
    """How a point ended, and why."""
    return f"{row.status.replace('_', ' ')}{f': {row.note}' if row.note else ''}"


def _text(value) -> str:
    return "-" if pd.isna(value) else str(value)
