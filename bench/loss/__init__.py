"""What polling a table loses: the same writers, watched by six rules at once, each with a copy of its own.

    writer     long transactions, savepoints, rollbacks, updates, deletes, numbers drawn early and used late
    rules      how a poller asks for what is new: by id, by a timestamp, by xmin, by a watermark, by the
               difference of two snapshots; one file of SQL each
    poller     what each has after that: a copy, compared with the table when all is quiet

Lost is a row that the copy does not have (`missing`) or has in an old version (`outdated`); `kept` is one
that was deleted, which a column cannot tell; `doubled` a version that came again. The rule by id never sees
an update: look at what it misses.

No part of the product: the lake does not import it. It says why `oltp/tracking.sql` is as it is.
"""

from bench.loss.contest import Effort, measure_loss
from bench.loss.table import LossTable, RuleLoss

__all__ = ["Effort", "LossTable", "RuleLoss", "measure_loss"]
