"""When should I leave Postgres? From where on the columns overtake the row store, in words."""
