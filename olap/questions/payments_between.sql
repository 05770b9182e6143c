-- A look-up: the payments of a range of rides.
-- $first = 1: the first ride_id
-- $last = 20: the last ride_id
SELECT ride_id, status, held_cents, captured_cents, tip_cents
FROM payments
WHERE ride_id BETWEEN $first AND $last
ORDER BY ride_id
