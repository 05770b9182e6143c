"""olap: files become an answer.

A question is two files of one name in `questions/`: `.sql` for every engine that speaks it and `.py`
for Polars frames. An answer is a `pyarrow.Table`, whole and in memory; two answers are compared before
anybody is told a time.

    question ──ask──> answers, one an engine ──compared──> formats ──> stdout
    .sql + .py        interleaved, timed       answer.py    telling ──> stderr: who, how fast

Start at `questions/`, then `ask.py`; what "equal" means is in `answer.py`.
"""
