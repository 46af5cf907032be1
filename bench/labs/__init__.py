"""Results of several labs: one reviewed file per lab and profile, and what they say together.

- :mod:`bench.labs.schema`: the file; :mod:`bench.labs.checks` and :mod:`bench.labs.agreement`:
  what must agree inside it.
- :mod:`bench.labs.reading`: reads a file that somebody else wrote, and says what is wrong with it.
- :mod:`bench.labs.pooling`: which labs may be pooled, random-effects meta-analysis, verdicts.
- :mod:`bench.labs.view`, :mod:`bench.labs.forest`: tables and forest plot.
"""
