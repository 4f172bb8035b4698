"""Class centres and the loss over them: dense, chunked, sharded over processes, sampled."""

from zoo.heads.loss.margin_softmax import MarginSoftmaxLoss
from zoo.heads.loss.sharded import keep_shards_local, shard_range

__all__ = ["MarginSoftmaxLoss", "keep_shards_local", "shard_range"]
