-- What every later epoch will not ask for; and the word that it was done, for other lakes of this store.
WITH said AS (UPDATE ridelake_tracking.cleared SET before_tx = greatest(before_tx, %(before_tx)s))
DELETE FROM ridelake_tracking.tombstones WHERE tx < %(before_tx)s
