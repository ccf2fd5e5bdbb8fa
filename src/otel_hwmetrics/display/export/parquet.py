# SPDX-License-Identifier: Apache-2.0
"""Parquet: a row a value, which pandas, Polars and DuckDB group and pivot as they like."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Final

from otel_hwmetrics.display.export.choice import Choice
from otel_hwmetrics.display.export.columns import Column
from otel_hwmetrics.display.export.looks import Looks, Part, job_looks_of, looks_of
from otel_hwmetrics.display.export.target import Heard, MissingExtra, target
from otel_hwmetrics.display.finite import finite
from otel_hwmetrics.recording import Run

ROWS: Final = 262_144
"""Of one row group, about: what is in memory at once."""
VERSION: Final = "1"
"""Of the columns; in the file's metadata."""


def write_parquet(run: Run, parts: Sequence[Part], choice: Choice, path: str, told: Heard) -> int:
    """Write the run as one file; gives the number of rows.

    Raises:
        MissingExtra: pyarrow is not there.
        OSError: It cannot be written.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("Parquet", "pyarrow", "parquet") from error
    with target(path) as file:
        return _Sheet(pa, run).write(parquet, file, parts, choice, told)


class _Sheet:
    """The rows of a run.

    Args:
        pa: The module pyarrow.
        run: Whose.
    """

    def __init__(self, pa: Any, run: Run) -> None:
        self._pa = pa
        self._run = run
        word = pa.dictionary(pa.int32(), pa.string())
        kinds = {
            "timestamp": pa.timestamp("ns", "UTC"),
            **dict.fromkeys(("run", "host"), word),
            "rank": pa.int32(),
            "pid": pa.int64(),
            **dict.fromkeys(("series", "metric", "unit", "kind", "attributes"), word),
            "value": pa.float64(),
        }
        about = {"hwmetrics.run.id": run.id, "hwmetrics.run.name": run.name, "hwmetrics.version": VERSION}
        fields = [pa.field(name, kind, nullable=name == "rank") for name, kind in kinds.items()]
        self._schema = pa.schema(fields, metadata=about)

    def write(self, parquet: Any, file: BinaryIO, parts: Sequence[Part], choice: Choice, told: Heard) -> int:
        rows, waiting = 0, []
        sink = self._pa.PythonFile(file, mode="w")
        with parquet.ParquetWriter(sink, self._schema, compression="zstd") as writer:
            for part in parts:
                for looks in _all_looks(part, choice):
                    waiting.append(self._batch(part, looks))
                    rows += waiting[-1].num_rows
                    if sum(each.num_rows for each in waiting) >= ROWS:
                        writer.write_table(self._pa.Table.from_batches(waiting, self._schema))
                        waiting = []
                    told(looks.times[-1])
            if waiting:
                writer.write_table(self._pa.Table.from_batches(waiting, self._schema))
        return rows

    def _batch(self, part: Part, looks: Looks) -> Any:
        """Looks as rows, a series after the other; what is absent has none."""
        times, values, codes = array("q"), array("d"), array("i")
        for code, (_, column) in enumerate(looks.columns):
            here = [place for place, value in enumerate(column) if value == value]  # noqa: PLR0124 - absent is NaN
            whole = len(here) == len(column)
            times.extend(looks.times if whole else array("q", (looks.times[place] for place in here)))
            values.extend(column if whole else array("d", (column[place] for place in here)))
            codes.extend(array("i", [code]) * len(here))
        pa, rows, about = self._pa, len(times), part.recording.about
        columns, all_one = [column for column, _ in looks.columns], array("i", [0]) * rows
        rank = (
            pa.nulls(rows, pa.int32()) if about.rank is None else self._numbers("rank", array("i", [about.rank]) * rows)
        )
        filled = [
            self._numbers("timestamp", times),
            self._words(all_one, [self._run.id]),
            self._words(all_one, [about.host]),
            rank,
            self._numbers("pid", array("q", [about.pid]) * rows),
            self._words(codes, [column.name for column in columns]),
            self._words(codes, [column.metric for column in columns]),
            self._words(codes, [column.unit for column in columns]),
            self._words(codes, [column.kind.value for column in columns]),
            self._words(codes, [_as_json(column) for column in columns]),
            self._numbers("value", values),
        ]
        return pa.RecordBatch.from_arrays(filled, schema=self._schema)

    def _numbers(self, name: str, values: array[Any]) -> Any:
        return self._pa.Array.from_buffers(
            self._schema.field(name).type, len(values), [None, self._pa.py_buffer(values)]
        )

    def _words(self, codes: array[int], words: Sequence[str]) -> Any:
        """The words that the codes stand for, each word once."""
        each = {word: place for place, word in enumerate(dict.fromkeys(words))}
        places = [each[word] for word in words]
        mapped = codes if len(each) == len(words) else array("i", (places[code] for code in codes))
        numbers = self._pa.Array.from_buffers(self._pa.int32(), len(mapped), [None, self._pa.py_buffer(mapped)])
        return self._pa.DictionaryArray.from_arrays(numbers, self._pa.array(list(each), self._pa.string()))


def _all_looks(part: Part, choice: Choice) -> Iterator[Looks]:
    for stream in (*job_looks_of(part, choice), looks_of(part, choice)):
        yield from stream


def _as_json(column: Column) -> str:
    attributes = finite(dict(column.attributes))
    told = json.dumps(attributes, ensure_ascii=False, sort_keys=True, allow_nan=False)
    return told.encode("utf-8", "replace").decode()
