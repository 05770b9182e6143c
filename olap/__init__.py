"""olap: run questions on several engines and compare their answers.

A question is two files of one name in `questions/`: `.sql` for the SQL engines and `.py` for Polars frames.
An answer is a `pyarrow.Table` in memory. Answers are compared before any time is shown.

    question ──ask──> one answer per engine ──compare──> formats ──> stdout: the answer
    .sql + .py        interleaved, timed      answer.py    runs ───> stderr: engines and times

Start at `questions/`, then `ask.py`. `answer.py` defines when two answers are equal.
"""
