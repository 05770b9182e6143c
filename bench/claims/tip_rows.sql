UPDATE payments SET tip_cents = %(tip_cents)s WHERE ride_id = %(ride_id)s
