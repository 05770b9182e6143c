-- A look-up: how were these rides paid, from one number to another?
-- $first = 1: the first ride of the page
-- $last = 20: the last one
SELECT ride_id, status, held_cents, captured_cents, tip_cents
FROM payments
WHERE ride_id BETWEEN $first AND $last
ORDER BY ride_id
