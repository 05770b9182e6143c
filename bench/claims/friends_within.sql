WITH RECURSIVE reached AS (
    SELECT CAST($1 AS bigint) AS person_id, 0 AS hops
    UNION
    SELECT friend_id, hops + 1
    FROM reached JOIN friendships USING (person_id)
    WHERE hops < $2
)
SELECT count(DISTINCT person_id) - 1 FROM reached
