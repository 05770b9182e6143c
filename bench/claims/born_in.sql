WITH RECURSIVE inside AS (
    SELECT place_id FROM places WHERE name = $1
    UNION ALL
    SELECT places.place_id FROM places JOIN inside ON places.within_id = inside.place_id
)
SELECT count(*) FROM people JOIN inside ON born_in_id = place_id
