"""Sharded centres: two and three gloo processes give what one gives, and their checkpoints fit other numbers."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support import heads_ranks
from tests.support.heads_ranks import CASES, CHECKPOINT, DIM, SAMPLED, Case, observe
from tests.support.places import ROOT
from zoo.errors import InputError
from zoo.heads import MarginSoftmaxLoss, build_head, shard_range
from zoo.heads.loss.sampling import columns_of
from zoo.heads.loss.sharded import update_state


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Any]]]:
    """{ranks: [what each rank saw]}, from three processes and then from two, which load the checkpoint of the three."""
    folder = tmp_path_factory.mktemp("ranks")
    seen = {}
    for ranks in (3, 2):
        command = [sys.executable, "-m", "tests.support.heads_ranks"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        processes = [
            subprocess.Popen(
                [*command, str(rank), str(ranks), str(folder)],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in range(ranks)
        ]
        outputs = [process.communicate(timeout=240)[0] for process in processes]
        assert [process.returncode for process in processes] == [0] * ranks, "\n".join(outputs)
        seen[ranks] = [torch.load(folder / f"{ranks}-{rank}.pt", weights_only=False) for rank in range(ranks)]
    seen[1] = [{"loaded": heads_ranks.load_checkpoint(None, folder / "checkpoint")}]
    return seen


def joined(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts)


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_sharded_equals_one_process(groups: dict[int, list[dict[str, Any]]], case: Case, ranks: int) -> None:
    for step, expected in enumerate(observe(case, None)):
        seen = [rank[str(case)][step] for rank in groups[ranks]]
        for one in seen:
            torch.testing.assert_close(one["loss"], expected["loss"])
            assert one["finite"]
            for found, wanted in zip(one["head"], expected["head"], strict=True):
                torch.testing.assert_close(found, wanted)  # the whole gradient, on every rank
            for kind in ("stats", "state"):
                for key, value in expected[kind].items():
                    torch.testing.assert_close(one[kind][key], value, msg=key)
        for kind in ("embeddings", "weight"):
            torch.testing.assert_close(joined([one[kind] for one in seen]), expected[kind])


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("case", SAMPLED, ids=str)
def test_sampling_over_shards_equals_one_process_with_the_classes_drawn(
    groups: dict[int, list[dict[str, Any]]], case: Case, ranks: int
) -> None:
    seen = [rank[str(case)][0] for rank in groups[ranks]]
    rows = joined([one["rows"] for one in seen])
    embeddings, labels = case.batch(0)
    assert set(labels.tolist()) <= set(rows.tolist()) and len(rows) < case.classes
    small = MarginSoftmaxLoss(build_head(case.head), len(rows), DIM, sub_centres=case.sub_centres).double()
    small.weight.data.copy_(case.loss(None).weight.data[rows])
    x = embeddings.requires_grad_()
    value = small(x, columns_of(labels, rows))
    value.backward()
    torch.testing.assert_close(seen[0]["loss"], value.detach())
    torch.testing.assert_close(joined([one["embeddings"] for one in seen]), x.grad)
    torch.testing.assert_close(joined([one["weight"] for one in seen])[rows], small.weight.grad)


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_backbone_under_ddp_with_one_clip_norm_trains_as_in_one_process(
    groups: dict[int, list[dict[str, Any]]], ranks: int
) -> None:
    expected = heads_ranks.train(None)
    for one in (rank["train"] for rank in groups[ranks]):
        torch.testing.assert_close(one["norms"], expected["norms"])
        torch.testing.assert_close(one["backbone"], expected["backbone"])
    torch.testing.assert_close(joined([rank["train"]["weight"] for rank in groups[ranks]]), expected["weight"])


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_model_that_holds_sharded_centres_trains_under_ddp_as_in_one_process(
    groups: dict[int, list[dict[str, Any]]], ranks: int
) -> None:
    expected = heads_ranks.wrapped(None)
    for one in (rank["wrapped"] for rank in groups[ranks]):
        torch.testing.assert_close(one["losses"], expected["losses"])
        torch.testing.assert_close(one["others"], expected["others"])
    torch.testing.assert_close(joined([rank["wrapped"]["weight"] for rank in groups[ranks]]), expected["weight"])


@pytest.mark.parametrize("ranks", [2, 3])
def test_shards_that_ddp_has_overwritten_are_refused_with_the_call_that_keeps_them(
    groups: dict[int, list[dict[str, Any]]], ranks: int
) -> None:
    for rank in groups[ranks]:
        assert "zoo.heads.keep_shards_local(model)" in rank["overwritten"]


@pytest.mark.parametrize("ranks", [2, 3])
def test_batches_of_different_sizes_are_refused_on_every_rank(
    groups: dict[int, list[dict[str, Any]]], ranks: int
) -> None:
    told = ", ".join(f"rank {rank}: {2 + rank}" for rank in range(ranks))
    for rank in groups[ranks]:
        assert f"found {told}; drop the last" in rank["ragged"]


@pytest.mark.parametrize("ranks", [2, 3])
def test_replicated_losses_have_the_state_of_the_global_batch_where_asked(
    groups: dict[int, list[dict[str, Any]]], ranks: int
) -> None:
    for name, expected in heads_ranks.replicated(None, sync=True).items():
        seen = [rank["replicated"][True][name] for rank in groups[ranks]]
        for one in seen:
            torch.testing.assert_close(one["state"], expected["state"])
        alone = [rank["replicated"][False][name] for rank in groups[ranks]]
        if expected["margins"] is None:
            assert not torch.equal(
                alone[0]["state"]["t" if name[0] == "r" else "norm_mean"], next(iter(expected["state"].values()))
            )
            continue
        torch.testing.assert_close(joined([one["margins"] for one in seen]), expected["margins"])
        drawn = joined([one["margins"] for one in alone])
        torch.testing.assert_close(drawn.sort().values, expected["margins"].sort().values)  # no margin twice


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_checkpoint_of_three_ranks_is_loaded_by_fewer(groups: dict[int, list[dict[str, Any]]], ranks: int) -> None:
    loss = CHECKPOINT.loss(None)
    optimizer = heads_ranks.RowwiseSGD([loss.weight], lr=0.1, momentum=0.9)
    loss(*CHECKPOINT.batch(0)).backward()
    optimizer.step()
    loaded = [rank["loaded"] for rank in groups[ranks]]
    torch.testing.assert_close(joined([one["weight"] for one in loaded]), loss.weight.detach())
    momentum = optimizer.state[loss.weight]["momentum_buffer"]
    torch.testing.assert_close(joined([one["momentum"] for one in loaded]), momentum)
    for one in loaded:
        torch.testing.assert_close(one["t"], loss.head.t)


@pytest.mark.parametrize(("classes", "ranks"), [(5, 4), (2, 3), (23, 2), (1_000_003, 8), (3, 3)])
def test_shards_cover_every_class_once_as_dtensor_cuts_them(classes: int, ranks: int) -> None:
    parts = [shard_range(classes, rank, ranks) for rank in range(ranks)]
    assert [j for part in parts for j in part] == list(range(classes))
    chunks = torch.arange(classes).chunk(ranks)
    assert [len(part) for part in parts] == [len(c) for c in chunks] + [0] * (ranks - len(chunks))


def test_sharding_without_a_process_group_says_what_to_start() -> None:
    with pytest.raises(InputError, match="torchrun"):
        MarginSoftmaxLoss(build_head("arcface"), 5, 4, process_group=object())


@pytest.mark.parametrize("sync", [False, True])
def test_one_process_updates_with_its_batch_and_keeps_its_state_where_that_is_not_finite(sync: bool) -> None:
    head = build_head("recurricularface")
    cos_y, norm = torch.tensor([0.2, 0.6]), torch.ones(2)
    assert update_state(head, cos_y, norm, torch.tensor(True), is_global=False, sync=sync)
    assert head.t.item() == pytest.approx(0.004) and head.first_sample == 0
    assert not update_state(head, cos_y * math.nan, norm, torch.tensor(False), is_global=False, sync=sync)
    assert head.t.item() == pytest.approx(0.004)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_loss_in_16_bits_keeps_its_running_state_in_32(dtype: torch.dtype) -> None:
    loss = MarginSoftmaxLoss("curricularface", 5, 8, seed=0).to(dtype)
    loss.head.t.fill_(0.5)
    x, labels = torch.randn(6, 8, generator=torch.Generator().manual_seed(0)).to(dtype), torch.arange(6) % 5
    loss(x, labels).backward()
    moved = 0.99 * 0.5 + 0.01 * loss.mean_target_cosine.item()
    assert loss.weight.grad.dtype == dtype and loss.head.t.item() == pytest.approx(moved, abs=1e-6)
    assert abs(moved - torch.tensor(moved).bfloat16().item()) > 1e-6  # the twin: 16 bits cannot tell it
