-- Books in two models: with a table of publishers, and with the publisher in each book.
CREATE TABLE publishers (publisher_id integer PRIMARY KEY, publisher text NOT NULL UNIQUE, country text NOT NULL);
CREATE TABLE books (
    book_id       integer PRIMARY KEY,
    title         text NOT NULL,
    author        text NOT NULL,
    format        text NOT NULL,
    publisher_id  integer NOT NULL REFERENCES publishers,
    price_cents   integer NOT NULL
);
CREATE INDEX ON books (publisher_id);
CREATE TABLE flat_books (
    book_id      integer PRIMARY KEY,
    title        text NOT NULL,
    author       text NOT NULL,
    format       text NOT NULL,
    publisher    text NOT NULL,
    country      text NOT NULL,
    price_cents  integer NOT NULL
);
CREATE INDEX ON flat_books (publisher);
