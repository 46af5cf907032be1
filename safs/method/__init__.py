"""SAFS itself: both stages and the cheap search, given a way to train a candidate (Section 4.2).

Whoever calls says how a candidate is trained: in this process (:mod:`safs.api.study`), or as jobs
on workers that a journal remembers (``pipelines/stages``). What comes back is the same for both:
the winner, and one typed row per training (:mod:`safs.rows`).
"""
