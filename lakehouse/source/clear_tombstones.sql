-- Delete tombstones that later epochs do not need. `cleared` records it for other lakes of this database.
WITH recorded AS (UPDATE ridelake_tracking.cleared SET before_tx = greatest(before_tx, %(before_tx)s))
DELETE FROM ridelake_tracking.tombstones WHERE tx < %(before_tx)s
