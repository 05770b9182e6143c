-- name: replication
-- The replication state of the standby %(name)s: streaming or catching up; synchronous or not.
SELECT state, sync_state, pid FROM pg_stat_replication WHERE application_name = %(name)s
