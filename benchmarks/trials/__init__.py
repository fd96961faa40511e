"""Monte-Carlo trials of canary judges: simulated pairs whose truth is known.

Here belong the scenarios and what draws their pairs (`scenarios`, `paired`,
`latency`, `gauge`, `noise`), the least data any test could do with
(`information`), simple rules and peers' rules to compare with (`zscores`,
`kayenta`, `thresholds`, `oracles`, collected in `baselines`), running and
counting (`run`), what is promised (`goals`), and the tables (`tables`, `page`).

Names of scenarios, seeds and draws are those of the public trials file, so
that figures can be compared line by line; a test holds them to it. Nothing in
here may be made faster or tidier in a way that changes a draw.

A judge is made by factory(config) and answers update(batch) with "continue",
"rollback" or "promote". It sees config and batches, never the truth.
"""
