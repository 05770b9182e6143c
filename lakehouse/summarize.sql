-- A BRIN index knows nothing of pages that are new since the last VACUUM, and so has them all read.
SELECT brin_summarize_new_values(indexrelid)
FROM ridelake_tracking.tracked JOIN pg_index ON indrelid = relation
WHERE pg_get_indexdef(indexrelid) LIKE '%USING brin (tx)%'
