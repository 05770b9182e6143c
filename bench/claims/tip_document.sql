UPDATE documents SET document = jsonb_set(document, '{payment,tip_cents}', to_jsonb(%(tip_cents)s::bigint))
WHERE ride_id = %(ride_id)s
