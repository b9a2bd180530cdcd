"""From pages to the files of a corpus: the steps, written once, and the two engines that run them.

`flow` is the order of the steps; `cutting`, `repeated`, `duplicates`, `sampling` and `output` are the steps, pure
functions of a shard or of a group; `engine` is what they need of an engine; `local` (with `pool` and `shuffle`) and
`beam` are the engines. Both give the same bytes.
"""
