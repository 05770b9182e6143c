-- How the standby %(name)s follows: streaming or still catching up, awaited by commits or not.
SELECT state, sync_state, pid FROM pg_stat_replication WHERE application_name = %(name)s
