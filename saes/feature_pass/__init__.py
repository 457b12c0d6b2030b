"""One pass over a corpus that tells everything about every feature; `saes.features` is its public face.

The model runs once. Tokens and sparse codes are spilled to disk in shards, each also sorted by feature; what is known
of a feature is then computed exactly from its own firings, a block of features at a time. So memory holds one block,
however many features there are, and a pass that was killed goes on from its last whole shard with the same bytes.
"""
