"""Results of several labs: one reviewed file per lab and profile, and what they say together.

- :mod:`bench.labs.schema`: a file's fields; :mod:`bench.labs.checks`, :mod:`bench.labs.agreement`:
  what must agree among them; :mod:`bench.labs.file`: the file that is held to both.
- :mod:`bench.labs.summary`: what it says of its runs; :mod:`bench.labs.cards`: the file of a GPU.
- :mod:`bench.labs.reading`: reads a file that somebody else wrote, and says what is wrong with it.
- :mod:`bench.labs.pooling`: which labs may be pooled, random-effects meta-analysis, verdicts.
- :mod:`bench.labs.view`, :mod:`bench.labs.forest`: tables and forest plot.
"""
