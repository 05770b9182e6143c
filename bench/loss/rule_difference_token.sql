-- The snapshot of this transaction, the cursor of the next poll.
SELECT pg_current_snapshot()::text;
