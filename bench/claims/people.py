"""Generated people: each is born in a city of a state of a country, and has friends."""

from dataclasses import dataclass

import numpy as np
import polars as pl

COUNTRIES = ("USA", "Canada", "France", "Vietnam")
STATES_PER_COUNTRY, CITIES_PER_STATE = 10, 20
FRIENDS_DRAWN = 4  # by each person; on average as many others draw this person


@dataclass(frozen=True, slots=True)
class People:
    """`places`: place_id, name, within_id (null: a country). `people`: person_id, name, born_in_id.
    `friendships`: person_id, friend_id, each pair once, the smaller id first."""

    places: pl.DataFrame
    people: pl.DataFrame
    friendships: pl.DataFrame

    @property
    def friendships_both_ways(self) -> pl.DataFrame:
        """Each friendship in both directions, as SQL needs it to follow it from either side."""
        back = self.friendships.select(person_id="friend_id", friend_id="person_id")
        return pl.concat([self.friendships, back])


def draw_people(people: int, seed: int) -> People:
    random = np.random.default_rng(seed)
    countries = len(COUNTRIES)
    states = countries * STATES_PER_COUNTRY
    cities = states * CITIES_PER_STATE
    place = np.arange(countries + states + cities)
    first_city = countries + states
    within = [
        *[None] * countries,
        *(state // STATES_PER_COUNTRY for state in range(states)),
        *(countries + city // CITIES_PER_STATE for city in range(cities)),
    ]
    names = [*COUNTRIES, *(f"place {number}" for number in place[countries:])]
    person = np.arange(people)
    pairs = random.integers(0, people, (people * FRIENDS_DRAWN, 2))
    pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)
    return People(
        pl.DataFrame({"place_id": place, "name": names, "within_id": within}),
        pl.DataFrame(
            {
                "person_id": person,
                "name": [f"person {number}" for number in person],
                "born_in_id": random.integers(first_city, len(place), people),
            }
        ),
        pl.DataFrame({"person_id": pairs[:, 0], "friend_id": pairs[:, 1]}),
    )
