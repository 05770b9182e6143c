-- Triggers that reject illegal updates, whatever program sends them. The constraints of schema.sql check a row;
-- these check the transition from the old row to the new one.

CREATE FUNCTION refuse_illegal_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% cannot go from % to %', TG_TABLE_NAME, OLD.status, NEW.status
        USING ERRCODE = 'check_violation';
END $$;

CREATE TRIGGER legal_moves BEFORE UPDATE OF status ON rides FOR EACH ROW
WHEN (OLD.status IS DISTINCT FROM NEW.status AND (OLD.status, NEW.status) NOT IN (
    ('assigned', 'started'), ('assigned', 'cancelled'), ('started', 'completed')))
EXECUTE FUNCTION refuse_illegal_move();

CREATE TRIGGER legal_moves BEFORE UPDATE OF status ON payments FOR EACH ROW
WHEN (OLD.status IS DISTINCT FROM NEW.status AND (OLD.status, NEW.status) NOT IN (
    ('held', 'captured'), ('held', 'voided'), ('captured', 'refunded')))
EXECUTE FUNCTION refuse_illegal_move();

CREATE TRIGGER legal_moves BEFORE UPDATE OF status ON drivers FOR EACH ROW
WHEN (OLD.status IS DISTINCT FROM NEW.status AND (OLD.status, NEW.status) NOT IN (
    ('offline', 'available'), ('available', 'offline'), ('available', 'busy'), ('busy', 'available')))
EXECUTE FUNCTION refuse_illegal_move();

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % cannot be changed or deleted; correct the ledger with another transfer', TG_TABLE_NAME
        USING ERRCODE = 'check_violation';
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ride_events FOR EACH ROW EXECUTE FUNCTION refuse_change();
