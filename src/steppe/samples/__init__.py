"""Samples of an objective: rows of its batches, taken apart and put together anew."""

from steppe.samples.objectives import WITH_ROWS as WITH_ROWS
from steppe.samples.objectives import is_row_by_row as is_row_by_row
from steppe.samples.objectives import on_batches as on_batches
from steppe.samples.objectives import regrouped as regrouped
from steppe.samples.objectives import row_count as row_count
from steppe.samples.rows import gathered as gathered
from steppe.samples.rows import joinable as joinable
from steppe.samples.rows import rows_of as rows_of
from steppe.samples.rows import take_rows as take_rows
