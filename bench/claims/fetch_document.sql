SELECT document FROM documents WHERE ride_id = %(ride_id)s
