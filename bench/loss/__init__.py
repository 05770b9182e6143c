"""Rows that polling a table loses: six polling rules follow the same writers, each with its own copy.

    writer     long transactions, savepoints, rollbacks, updates, deletes, ids drawn early and used late
    rules      the conditions for new rows: by id, by timestamp, by xmin, by watermark, by the difference of
               two snapshots; one SQL file each
    poller     applies a rule to a copy, which is compared with the table after the writers have ended

A row is lost if the copy does not have it (`missing`) or has an old version (`outdated`). `kept` counts rows
that were deleted from the table only, `doubled` versions that were read twice. The rule by id never sees
updates; consider its missing rows only.

The product does not use this package. It shows why `oltp/tracking.sql` uses the difference of two snapshots.
"""

from bench.loss.measure import LossEffort, measure_loss
from bench.loss.table import LossTable, RuleLoss

__all__ = ["LossEffort", "LossTable", "RuleLoss", "measure_loss"]
