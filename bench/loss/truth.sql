SELECT id, payload FROM loss_rows;
