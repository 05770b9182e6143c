"""olap: files become an answer.

A question is two files of one name in `questions/`: `.sql` for every engine that speaks it and `.py`
for Polars frames. An answer is a `pyarrow.Table`, whole and in memory; two answers are compared before
anybody is told a time.
"""
