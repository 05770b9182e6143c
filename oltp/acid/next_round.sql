-- The rides of this round end, and their drivers are free again.
UPDATE rides SET active = false WHERE active;
UPDATE drivers SET busy = false WHERE busy;
